"""System management mode: SMI, handlers in every mode, RSM.

SDM volume 3, "System Management Mode"; APM volume 2, the chapter of that name, whose state-save
area is used where long mode is announced. The handler sees the memory of the other modes.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import pytest

from microv import abi_gen as mv
from microv.ops import vm, vs
from tests.guest import layout
from tests.guest.modes import (
    COMPAT16,
    COMPAT32,
    LONG64,
    PAE32,
    PAGED32,
    PROTECTED16,
    PROTECTED32,
    REAL,
    V86,
    Cr0,
    Cr4,
    Efer,
    Mode,
    Rflags,
)
from tests.guest.processor import GENERAL, SEGMENTS, Processor
from tests.hypercall.guest import RWX

_SMBASE: Final = 0x3_0000
_ENTRY: Final = 0x8000
_SMBASE_MSR: Final = 0x9E
_EFER_MSR: Final = 0xC000_0080
_NMI: Final = 2
_ALL: Final = [REAL, PROTECTED16, PROTECTED32, PAGED32, PAE32, COMPAT16, COMPAT32, LONG64]
_EVERY_MODE: Final = pytest.mark.parametrize("mode", _ALL, ids=str)
_STATE: Final = (
    *("cr0", "cr3", "cr4", "rflags", "rsp", "dr6", "dr7", *GENERAL),
    *(f"{table}_{field}" for table in ("gdtr", "idtr") for field in ("base", "limit")),
    *(
        f"{name}_{field}"
        for name in (*SEGMENTS, "ldtr", "tr")
        for field in ("selector", "attrib", "limit", "base")
    ),
)

LONG_HANDLER: Final = f"""
    mov eax, {layout.PAGE_TABLES:#x}; mov cr3, eax
    mov eax, {int(Cr4.PAE):#x}; mov cr4, eax
    mov ecx, {_EFER_MSR:#x}; mov eax, {int(Efer.LME | Efer.NXE):#x}; xor edx, edx; wrmsr
    mov eax, cr0; or eax, {int(Cr0.PE | Cr0.PG):#x}; mov cr0, eax
"""
"""Into compatibility mode; a far jump to 64-bit code follows."""


class _Smm(Processor):
    """With a handler at SMBASE, 16-bit code."""

    def __init__(self, mode: Mode, code: str, handler: str, *, cpl: int | None = None) -> None:
        super().__init__(mode, code, cpl=cpl)
        vm.mmio_map(self.vmid, [(mv.MV_GPA_SMM, self.address, layout.MEMORY, RWX)])
        self.handle(handler)

    def handle(self, source: str, smbase: int = _SMBASE) -> None:
        """Makes `source` the handler."""
        self.assemble(source, at=smbase + _ENTRY, bits=16)

    def smi(self) -> None:
        """Has the handler run next."""
        vs.inject_smi(self.vsid)

    def state(self) -> dict[str, int]:
        """What RSM brings back."""
        values = dict(zip(_STATE, self.get(*_STATE), strict=True))
        return {**values, "efer": vs.msr_get(self.vsid, _EFER_MSR)}

    @property
    def inside(self) -> bool:
        """Whether the mode is on."""
        return bool(vs.event_get_all(self.vsid).flags & mv.MV_EVENT_SMM)


def _offset(field: int) -> str:
    return f"cs:[{field:#x}]"


@_EVERY_MODE
@pytest.mark.parametrize(
    "handler",
    [
        "rsm",
        "mov eax, 7; mov esp, eax; mov ds, ax; mov ss, ax; mov cr3, eax; lgdt cs:[0x8000]; rsm",
        "sti; std; mov eax, 0xF; mov dr7, eax; mov eax, cr0; or al, 1; mov cr0, eax; rsm",
    ],
    ids=["at once", "other registers", "protected"],
)
def test_rsm_brings_everything_back(mode: Mode, handler: str) -> None:
    with _Smm(mode, "nop; hlt", handler) as cpu:
        before = cpu.state()
        cpu.smi()
        assert cpu.run_to_halt() == layout.CODE + 1
        assert cpu.state() == before
        assert not cpu.inside


@pytest.mark.parametrize("mode", [PROTECTED32, COMPAT32, LONG64, V86], ids=str)
def test_user_code_goes_on_in_its_ring(mode: Mode) -> None:
    """HLT of user code raises #GP, whose frame tells where from."""
    with _Smm(mode, "nop; hlt", "rsm", cpl=3) as cpu:
        cpu.smi()
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip, trap.cs) == (13, layout.CODE + 1, mode.code[3])
        assert bool(trap.rflags & Rflags.VM) == mode.v86


@pytest.mark.parametrize("mode", [PROTECTED32, LONG64], ids=str)
def test_handler_in_64_bit_code_returns(mode: Mode) -> None:
    """As firmware does it: real mode, paging and long mode, 64-bit code, RSM from there."""
    target = layout.OTHER_CODE
    jump = f"lgdt cs:[0x9000]; {LONG_HANDLER} .byte 0x66, 0xEA; .long {target:#x}; .short 0x18"
    with _Smm(mode, "nop; hlt", jump) as cpu:
        limit = (layout.GDT_ENTRIES * 8 - 1).to_bytes(2, "little")
        cpu.load(_SMBASE + 0x9000, limit + layout.GDT.to_bytes(4, "little"))
        cpu.load(layout.PAGE_TABLES, cpu.tables.image())
        cpu.assemble("mov rbx, 0x123456789; mov [0xD000], rbx; rsm", at=target, bits=64)
        before = cpu.state()
        cpu.smi()
        assert cpu.run_to_halt() == layout.CODE + 1
        assert cpu.state() == before
        assert cpu.qword(layout.DATA) == 0x1_2345_6789


def test_handler_sends_the_guest_elsewhere() -> None:
    with _Smm(
        LONG64, "hlt", f"mov dword ptr {_offset(0xFF78)}, {layout.OTHER_CODE:#x}; rsm"
    ) as cpu:
        cpu.assemble("nop; hlt", at=layout.OTHER_CODE)
        cpu.smi()
        assert cpu.run_to_halt() == layout.OTHER_CODE + 1


def test_handler_turns_long_mode_off() -> None:
    """What it returns to is whatever the state-save area says: here real mode."""
    fields = {
        0xFED0: 0,
        0xFF48: 0,
        0xFF58: int(Cr0.ET),
        0xFE10: 0x009B << 16,
        0xFE14: 0xFFFF,
        0xFE18: 0,
    }
    writes = "".join(f"mov dword ptr {_offset(at)}, {value:#x};" for at, value in fields.items())
    with _Smm(LONG64, "hlt", f"{writes} rsm") as cpu:
        cpu.smi()
        assert cpu.run_to_halt() == layout.CODE
        assert cpu.get("cr0", "cr4", "cs_attrib", "cs_limit") == [Cr0.ET, 0, 0x9B, 0xFFFF]
        assert vs.msr_get(cpu.vsid, _EFER_MSR) == 0


def test_each_vcpu_moves_its_smbase() -> None:
    with _Smm(REAL, "hlt", f"mov dword ptr {_offset(0xFF00)}, 0x40000; rsm") as cpu:
        cpu.handle("mov ax, cs; hlt", smbase=0x4_0000)
        cpu.smi()
        assert cpu.run_to_halt() == layout.CODE
        assert vs.msr_get(cpu.vsid, _SMBASE_MSR) == 0x4_0000
        cpu.smi()
        cpu.run_to_halt()
        assert (cpu.reg("rax"), cpu.reg("cs_base")) == (0x4000, 0x4_0000)


@_EVERY_MODE
def test_halted_guest_is_woken(mode: Mode) -> None:
    with _Smm(mode, "hlt; nop; hlt", "rsm") as cpu:
        assert cpu.run_to_halt() == layout.CODE
        cpu.smi()
        assert cpu.run_to_halt() == layout.CODE + 2


def test_handler_halts_and_goes_on_with_an_nmi() -> None:
    """An NMI ends HLT in a handler once IRET has let NMIs in."""
    handler = "mov esp, 0x2000; lidt cs:[0x9000]; pushf; push cs; push 0x9010; iret"
    with _Smm(LONG64, "hlt", handler) as cpu:
        cpu.load(_SMBASE + 0x9000, (0x3FF).to_bytes(2, "little") + bytes(4))
        cpu.load(4 * _NMI, (0x9020).to_bytes(2, "little") + (_SMBASE >> 4).to_bytes(2, "little"))
        cpu.assemble("hlt; rsm", at=_SMBASE + 0x9010, bits=16)
        cpu.assemble("mov bx, 5; mov [0xD000], bx; iret", at=_SMBASE + 0x9020, bits=16)
        cpu.smi()
        assert cpu.run_to_halt() == 0x9010
        assert cpu.inside
        vs.inject_exception(cpu.vsid, _NMI)
        assert cpu.run_to_halt() == layout.CODE
        assert cpu.qword(layout.DATA) == 5


@pytest.mark.parametrize("mode", [PROTECTED32, LONG64], ids=str)
def test_single_step_goes_on_behind_rsm(mode: Mode) -> None:
    with _Smm(mode, "nop; nop; hlt", "nop; rsm") as cpu:
        cpu.set(rflags=Rflags.FIXED | Rflags.TF)
        cpu.smi()
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (1, layout.CODE + 1)


@pytest.mark.parametrize("mode", [PROTECTED32, LONG64], ids=str)
def test_smi_goes_before_nmi_and_interrupt(mode: Mode) -> None:
    with _Smm(mode, "hlt", "mov word ptr [0xD000], 1; rsm") as cpu:
        cpu.set(rflags=Rflags.FIXED | Rflags.IF)
        vs.queue_interrupt(cpu.vsid, 0x40)
        vs.inject_exception(cpu.vsid, _NMI)
        cpu.smi()
        trap = cpu.run_to_trap()
        assert cpu.qword(layout.DATA) == 1
        assert (trap.vector, trap.rip) == (_NMI, layout.CODE)
        assert vs.queued_interrupt(cpu.vsid) == 0x40


def _bad_fields() -> Iterator[tuple[str, int, int]]:
    yield "CR0.PG without CR0.PE", 0xFF58, int(Cr0.PG | Cr0.ET)
    yield "CR0.NW without CR0.CD", 0xFF58, int(Cr0.NW | Cr0.PE | Cr0.ET)
    yield "upper half of CR0", 0xFF5C, 1
    yield "CR4 without PAE", 0xFF48, 0
    yield "CR4 beyond its bits", 0xFF4C, 1
    yield "EFER beyond its bits", 0xFED0, int(Efer.LME | Efer.LMA) | 2
    yield "CR3 beyond physical memory", 0xFF54, 0x0010_0000
    yield "upper half of DR7", 0xFF64, 1


@pytest.mark.parametrize(
    ("field", "value"),
    [(at, value) for _, at, value in _bad_fields()],
    ids=[n for n, *_ in _bad_fields()],
)
def test_state_that_cannot_be_is_a_shutdown(field: int, value: int) -> None:
    with _Smm(LONG64, "hlt", f"mov dword ptr {_offset(field)}, {value:#x}; rsm") as cpu:
        cpu.smi()
        assert cpu.run().reason == mv.mv_exit_reason_t_shutdown
        assert not cpu.inside


@_EVERY_MODE
def test_rsm_is_undefined_outside(mode: Mode) -> None:
    with _Smm(mode, "rsm", "rsm") as cpu:
        assert cpu.run_to_trap().vector == 6


def test_handlers_follow_each_other() -> None:
    """Each one counts where the one before did; SMIs that wait are one."""
    with _Smm(LONG64, "hlt", "inc word ptr [0xD000]; out 0x80, al; rsm") as cpu:
        counts = []
        for _ in range(4):
            cpu.smi()
            cpu.run_to_out()
            counts.append(cpu.qword(layout.DATA))
        cpu.run_to_halt()
        assert all(b == a + 1 for a, b in pairwise(counts))
        assert counts[0] == 1
