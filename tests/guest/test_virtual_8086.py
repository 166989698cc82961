"""Virtual-8086 mode: entry and leave, IOPL, the I/O map, and redirection by CR4.VME.

SDM volume 3, "8086 Emulation"; volume 1, "I/O Permission Bit Map".
"""

from struct import pack
from typing import Final

import pytest

from tests.guest import layout
from tests.guest.descriptors import CODE_RX, System, gate, segment
from tests.guest.modes import LONG64, PROTECTED32, V86, Cr4, Mode, Rflags
from tests.guest.processor import Processor
from tests.guest.task_state import TSS32_SIZE

_GP: Final = 13
_SELECTORS: Final = {"es": 0x100, "ds": 0x200, "fs": 0x300, "gs": 0x400}
_V86_FLAGS: Final = Rflags.FIXED | Rflags.VM
_IO_MAP: Final = layout.TSS + TSS32_SIZE + 32


def _v86(code: str, *, iopl: int = 0, vme: bool = False) -> Processor:
    cpu = Processor(V86, code)
    cpu.set(rflags=_V86_FLAGS | iopl << 12, cr4=Cr4.VME if vme else 0)
    for name, selector in _SELECTORS.items():
        cpu.set_segment(name, selector)
    return cpu


def test_iretd_enters_and_an_interrupt_leaves() -> None:
    with Processor(PROTECTED32, "iretd") as cpu:
        frame = (0x0010, 0x0B00, int(_V86_FLAGS | Rflags.IOPL3 | Rflags.CF), 0x0F00, 0x0900)
        rsp = layout.STACK_TOPS[0] - 36
        cpu.load(rsp, pack("<9I", *frame, *_SELECTORS.values()))
        cpu.load(0xB010, b"\xcd\x40")
        cpu.set(rsp=rsp)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip, trap.cs) == (0x40, 0x12, 0x0B00)
        assert trap.rflags == _V86_FLAGS | Rflags.IOPL3 | Rflags.CF
        assert (trap.rsp, trap.ss) == (0x0F00, 0x0900)
        assert trap.v86_segments == tuple(_SELECTORS.values())
        assert cpu.reg("rsp") == rsp
        assert not cpu.reg("rflags") & Rflags.VM
        for name in _SELECTORS:
            assert cpu.reg(f"{name}_selector") == 0


def test_segments_are_those_of_an_8086() -> None:
    with _v86("mov ax, 0x1234; mov ds, ax; int 0x40", iopl=3) as cpu:
        trap = cpu.run_to_trap()
        assert trap.v86_segments is not None
        assert trap.v86_segments[1] == 0x1234


@pytest.mark.parametrize("iopl", [0, 2, 3])
@pytest.mark.parametrize("code", ["cli", "sti", "pushf", "popf", "int 0x40", "iret"])
def test_what_could_change_if_wants_iopl_3(code: str, iopl: int) -> None:
    with _v86(f"{code}; int3", iopl=iopl) as cpu:
        cpu.set(rsp=0x9F00)
        cpu.load(0x9F00, pack("<3H", layout.CODE + 8, 0, 2))
        cpu.load(layout.CODE + 8, b"\xcc")
        trap = cpu.run_to_trap()
        if iopl < 3:
            assert (trap.fault, trap.rip) == ((_GP, 0), layout.CODE)
        else:
            assert trap.vector == (0x40 if "int" in code else 3)


@pytest.mark.parametrize(
    "code", ["hlt", "mov eax, cr0", "lgdt [0]", "lmsw ax", "clts", "mov eax, dr0", "rdmsr"]
)
def test_privileged_instructions_fault(code: str) -> None:
    with _v86(code, iopl=3) as cpu:
        assert cpu.run_to_trap().fault == (_GP, 0)


@pytest.mark.parametrize(
    "code", ["lldt ax", "ltr ax", "sldt ax", "str ax", "verr ax", "arpl ax, ax"]
)
def test_instructions_about_descriptors_are_undefined(code: str) -> None:
    with _v86(code) as cpu:
        assert cpu.run_to_trap().fault == (6, None)


def test_int3_and_into_do_not_look_at_iopl() -> None:
    with _v86("int3") as cpu:
        assert cpu.run_to_trap().vector == 3
    with _v86("into") as cpu:
        cpu.set(rflags=_V86_FLAGS | Rflags.OF)
        assert cpu.run_to_trap().vector == 4


def test_a_handler_of_a_ring_other_than_0_is_refused() -> None:
    with _v86("int3") as cpu:
        cpu.put_descriptor(layout.FREE_SELECTOR, segment(CODE_RX, dpl=1))
        cpu.put_gate(3, gate(System.INTERRUPT_GATE, layout.FREE_SELECTOR, 0, dpl=3))
        assert cpu.run_to_trap().fault == (_GP, layout.FREE_SELECTOR)


_PORT_CASES: Final = [
    (0x80, 1, 0x81, False),
    (0x80, 1, 0x80, True),
    (0x80, 2, 0x81, True),
    (0x80, 2, 0x82, False),
    (0x7F, 2, 0x80, True),
    (0x80, 4, 0x83, True),
    (0x80, 4, 0x84, False),
    (0x7D, 4, 0x80, True),
]


@pytest.mark.parametrize("mode", [PROTECTED32, LONG64, V86], ids=str)
@pytest.mark.parametrize(("port", "size", "denied", "faults"), _PORT_CASES)
def test_the_io_map_denies_a_port_by_its_bit(
    mode: Mode, port: int, size: int, denied: int, faults: bool
) -> None:
    register = {1: "al", 2: "ax", 4: "eax"}[size]
    with Processor(mode, f"out dx, {register}; nop", cpl=3) as cpu:
        _set_io_map(cpu, denied)
        cpu.set(rdx=port)
        if faults:
            assert cpu.run_to_trap().fault == (_GP, 0)
        else:
            assert cpu.run_to_out().port == port


def _set_io_map(cpu: Processor, denied: int) -> None:
    cpu.load(layout.TSS + 102, (_IO_MAP - layout.TSS).to_bytes(2, "little"))
    cpu.load(_IO_MAP, bytes(0x20) + b"\xff")
    cpu.load(_IO_MAP + denied // 8, (1 << denied % 8).to_bytes(1, "little"))
    cpu.set(tr_limit=_IO_MAP - layout.TSS + 0x20)


def test_a_port_beyond_the_io_map_is_denied() -> None:
    """Two bytes of the map are read, also for the ports of its last byte."""
    with Processor(PROTECTED32, "out dx, al; nop", cpl=3) as cpu:
        _set_io_map(cpu, 0)
        cpu.set(rdx=0x100)
        assert cpu.run_to_trap().fault == (_GP, 0)
        cpu.start()
        cpu.set(rdx=0xFF, tr_limit=_IO_MAP - layout.TSS + 0x1F)
        assert cpu.run_to_trap().fault == (_GP, 0)


def test_iopl_opens_ports_in_protected_mode_but_not_in_virtual_8086_mode() -> None:
    with Processor(PROTECTED32, "out 0x80, al", cpl=3) as cpu:
        cpu.set(rflags=Rflags.FIXED | Rflags.IOPL3)
        assert cpu.run_to_out().port == 0x80
    with _v86("out 0x80, al", iopl=3) as cpu:
        assert cpu.run_to_trap().fault == (_GP, 0)


@pytest.mark.parametrize("iopl", [0, 3])
@pytest.mark.parametrize("redirected", [False, True])
def test_vme_redirects_int_n_by_the_bit_map_of_the_tss(iopl: int, redirected: bool) -> None:
    with _v86("int 0x40", iopl=iopl, vme=True) as cpu:
        cpu.load(layout.TSS + 102, (_IO_MAP - layout.TSS).to_bytes(2, "little"))
        cpu.set(tr_limit=_IO_MAP - layout.TSS + 0x20)
        bit = b"\0" if redirected else b"\x01"
        cpu.load(_IO_MAP - 32 + 0x40 // 8, bit)
        cpu.load(4 * 0x40, pack("<HH", 0x0020, 0x0C00))
        cpu.load(0xC020, b"\xcc")
        cpu.set(rflags=_V86_FLAGS | iopl << 12 | Rflags.VIF)
        trap = cpu.run_to_trap()
        if not redirected:
            assert trap.fault == ((0x40, None) if iopl == 3 else (_GP, 0))
            return
        assert (trap.vector, trap.cs, trap.rip) == (3, 0x0C00, 0x21)
        ip, cs, flags = cpu.words(layout.STACK_TOPS[3] - 6, 2, 3)
        assert (ip, cs) == (layout.CODE + 2, 0)
        # IF of the image is VIF below IOPL 3, and its IOPL then reads as 3.
        assert flags == (0x3202 if iopl < 3 else 0x3002)


@pytest.mark.parametrize(("code", "after"), [("sti", Rflags.VIF), ("cli", 0)])
def test_vme_moves_cli_and_sti_to_vif(code: str, after: int) -> None:
    with _v86(f"{code}; int3", vme=True) as cpu:
        cpu.set(rflags=_V86_FLAGS | (0 if after else Rflags.VIF))
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rflags & (Rflags.VIF | Rflags.IF)) == (3, after)


def test_vme_sti_with_vip_faults() -> None:
    with _v86("sti", vme=True) as cpu:
        cpu.set(rflags=_V86_FLAGS | Rflags.VIP)
        assert cpu.run_to_trap().fault == (_GP, 0)
