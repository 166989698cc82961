"""DR0 to DR3: instruction, data and I/O breakpoints, general detect, RF.

SDM volume 3, "Debug Registers", "Debug Exception (#DB)", "Instruction-Breakpoint Exception
Condition".
"""

from typing import Final

import pytest

from tests.guest import layout
from tests.guest.modes import LONG64, PROTECTED32, Cr4, Mode, Rflags
from tests.guest.processor import Processor

_DB: Final = 1
_GP: Final = 13
_UD: Final = 6
_NONE: Final = 0xFFFF_0FF0
_BS: Final = 0x4000
_BD: Final = 0x2000
_EXECUTE, _WRITE, _IO, _ACCESS = range(4)
_LENGTHS: Final = {1: 0, 2: 1, 8: 2, 4: 3}
_MODES: Final = pytest.mark.parametrize("mode", [PROTECTED32, LONG64], ids=str)


def _dr7(number: int, kind: int, length: int = 1, *, enable: int = 2) -> int:
    """Breakpoint `number` enabled: 1 locally, 2 globally."""
    return 0x400 | enable << 2 * number | (kind | _LENGTHS[length] << 2) << 16 + 4 * number


@_MODES
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("enable", [1, 2, 3])
def test_an_instruction_breakpoint_is_a_fault_and_rf_gets_past_it(
    mode: Mode, number: int, enable: int
) -> None:
    """Of all faults it alone does not push RF set: the handler has to set it."""
    with Processor(mode, "nop; inc eax; nop; hlt") as cpu:
        cpu.set(dr7=_dr7(number, _EXECUTE, enable=enable))
        cpu.set(**{f"dr{number}": layout.CODE + 1})
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_DB, None), layout.CODE + 1)
        assert trap.rflags == Rflags.FIXED
        assert cpu.reg("dr6") == _NONE | 1 << number
        assert cpu.reg("rax") == 0
        cpu.resume(trap)
        cpu.set(rflags=trap.rflags | Rflags.RF)
        assert cpu.run_to_halt() > layout.CODE + 2
        assert cpu.reg("rax") == 1


def test_a_breakpoint_that_is_not_enabled_does_nothing() -> None:
    with Processor(LONG64, "nop; hlt") as cpu:
        cpu.set(dr0=layout.CODE, dr1=layout.CODE, dr7=_dr7(2, _EXECUTE))
        assert cpu.run_to_halt() == layout.CODE + 1
        assert cpu.reg("dr6") == _NONE


def test_only_the_first_byte_of_an_instruction_counts() -> None:
    with Processor(LONG64, "mov eax, 0x12345678; hlt") as cpu:
        cpu.set(dr0=layout.CODE + 1, dr7=_dr7(0, _EXECUTE))
        assert cpu.run_to_halt() == layout.CODE + 5


def test_rf_lasts_for_one_instruction() -> None:
    with Processor(LONG64, "nop; nop; hlt") as cpu:
        cpu.set(dr0=layout.CODE, dr1=layout.CODE + 1, dr7=_dr7(0, _EXECUTE) | _dr7(1, _EXECUTE))
        cpu.set(rflags=Rflags.FIXED | Rflags.RF)
        trap = cpu.run_to_trap()
        assert (trap.rip, cpu.reg("dr6")) == (layout.CODE + 1, _NONE | 2)


_ACCESSES: Final = [
    ("mov byte ptr [rbx], 1", 0, 1, True),
    ("mov [rbx], eax", 0, 4, True),
    ("push rax", -8, 8, True),
    ("add byte ptr [rbx], 1", 0, 1, True),
    ("xchg [rbx], eax", 0, 4, True),
    ("mov [rbx+3], eax", 3, 4, True),
    ("mov al, [rbx]", 0, 1, False),
    ("mov eax, [rbx+2]", 2, 4, False),
    ("pop rax", 0, 8, False),
    ("cmp [rbx], eax", 0, 4, False),
    ("lodsb", 0, 1, False),
    ("stosb", 0, 1, True),
    ("mov rax, [rbx]", 0, 8, False),
]


@pytest.mark.parametrize("length", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", [_WRITE, _ACCESS])
@pytest.mark.parametrize(("code", "offset", "size", "writes"), _ACCESSES)
def test_a_data_breakpoint_is_a_trap_behind_an_access_that_overlaps_it(
    code: str, offset: int, size: int, writes: bool, kind: int, length: int
) -> None:
    with Processor(LONG64, f"{code}; hlt") as cpu:
        start = layout.DATA + 8
        cpu.set(rbx=start, rsi=start, rdi=start, rsp=start, dr6=_NONE)
        hits = []
        for watched in range(start - 16, start + 16, length):
            cpu.set(rip=layout.CODE, rsp=start, rsi=start, rdi=start, rflags=Rflags.FIXED)
            cpu.set(dr3=watched, dr7=_dr7(3, kind, length), dr6=_NONE)
            handler = cpu.run_to_halt() - layout.HANDLERS
            if handler == _DB:
                trap = cpu.trap(_DB, error_code=False)
                assert cpu.reg("dr6") == _NONE | 8
                assert cpu.memory[trap.rip] == 0xF4
                hits.append(watched)
        accessed = range(start + offset, start + offset + size)
        overlapping = [
            watched
            for watched in range(start - 16, start + 16, length)
            if watched < accessed.stop and accessed.start < watched + length
        ]
        assert hits == (overlapping if writes or kind == _ACCESS else [])


def test_an_instruction_fetch_is_no_data_access() -> None:
    with Processor(LONG64, "nop; hlt") as cpu:
        cpu.set(dr0=layout.CODE, dr7=_dr7(0, _ACCESS))
        assert cpu.run_to_halt() == layout.CODE + 1


def test_each_iteration_of_a_string_instruction_may_hit() -> None:
    with Processor(LONG64, "rep stosb; hlt") as cpu:
        cpu.set(rdi=layout.DATA, rcx=4, dr0=layout.DATA + 1, dr7=_dr7(0, _WRITE))
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip, cpu.reg("rcx")) == (_DB, layout.CODE, 2)
        cpu.resume(trap)
        assert cpu.run_to_halt() == layout.CODE + 2


def test_a_step_and_a_data_breakpoint_are_one_exception() -> None:
    with Processor(LONG64, "mov [rbx], al; hlt") as cpu:
        cpu.set(rbx=layout.DATA, dr0=layout.DATA, dr7=_dr7(0, _WRITE))
        cpu.set(rflags=Rflags.FIXED | Rflags.TF)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (_DB, layout.CODE + 2)
        assert cpu.reg("dr6") == _NONE | _BS | 1


def test_a_breakpoint_on_the_operand_of_mov_ss_waits_for_the_next_instruction() -> None:
    with Processor(LONG64, "mov ss, [rbx]; nop; hlt") as cpu:
        cpu.set(rbx=layout.DATA, dr0=layout.DATA, dr7=_dr7(0, _ACCESS))
        cpu.load(layout.DATA, layout.DATA32.to_bytes(2, "little"))
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (_DB, layout.CODE + 3)


def test_a_faulting_store_hits_nothing() -> None:
    with Processor(LONG64, "mov [rbx], eax") as cpu:
        cpu.tables.set_page(layout.FAR_DATA, 0)
        cpu.refresh_tables()
        cpu.set(rbx=layout.FAR_DATA - 2, dr0=layout.FAR_DATA - 2, dr7=_dr7(0, _WRITE, 2))
        assert cpu.run_to_trap().vector == 14
        assert cpu.reg("dr6") == _NONE


@pytest.mark.parametrize("port", [0x80, 0x81])
def test_an_io_breakpoint_traps_behind_the_access(port: int) -> None:
    with Processor(LONG64, f"out {port:#x}, al; hlt") as cpu:
        cpu.set(cr4=cpu.mode.cr4 | Cr4.DE, dr2=0x80, dr7=_dr7(2, _IO))
        assert cpu.run_to_out().port == port
        if port == 0x80:
            trap = cpu.run_to_trap()
            assert (trap.vector, trap.rip) == (_DB, layout.CODE + 2)
            assert cpu.reg("dr6") == _NONE | 4
        else:
            assert cpu.run_to_halt() == layout.CODE + 2


@_MODES
@pytest.mark.parametrize("code", ["mov {}, dr0", "mov dr0, {}", "mov dr7, {}", "mov {}, dr6"])
def test_general_detect_guards_the_debug_registers(mode: Mode, code: str) -> None:
    register = "rax" if mode.bits == 64 else "eax"
    with Processor(mode, code.format(register)) as cpu:
        cpu.set(dr7=0x400 | 1 << 13)
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_DB, None), layout.CODE)
        assert cpu.reg("dr6") == _NONE | _BD
        assert cpu.reg("dr7") == 0x400


@pytest.mark.parametrize(("aliased", "name"), [(4, "dr6"), (5, "dr7")])
def test_dr4_and_dr5_are_other_names_without_cr4_de(aliased: int, name: str) -> None:
    code = f".byte 0x0f, 0x21, {0xC0 | aliased << 3:#x}; hlt"
    with Processor(PROTECTED32, code) as cpu:
        cpu.set(dr7=_dr7(1, _WRITE))
        cpu.run_to_halt()
        assert cpu.reg("rax") == cpu.reg(name)
        cpu.set(cr4=Cr4.DE, rip=layout.CODE)
        assert cpu.run_to_trap().fault == (_UD, None)


@pytest.mark.parametrize("register", ["dr6", "dr7"])
def test_the_upper_half_of_dr6_and_dr7_must_be_zero(register: str) -> None:
    with Processor(LONG64, f"mov {register}, rax") as cpu:
        cpu.set(rax=1 << 32)
        assert cpu.run_to_trap().fault == (_GP, 0)


@pytest.mark.parametrize(
    ("register", "written", "read"),
    [
        ("dr6", 0, _NONE),
        ("dr6", 0xFFFF_FFFF, 0xFFFF_EFFF),
        ("dr7", 0, 0x400),
        ("dr7", 0xFFFF_DFFF, 0xFFFF_07FF),
        ("dr0", 0xFFFF_FFFF, 0xFFFF_FFFF),
    ],
)
def test_fixed_bits_of_the_debug_registers(register: str, written: int, read: int) -> None:
    with Processor(PROTECTED32, f"mov {register}, eax; mov ebx, {register}; hlt") as cpu:
        cpu.set(rax=written)
        cpu.set(cr4=Cr4.DE)
        cpu.run_to_halt()
        # Bits of RTM and bus locks are the newest; they stay as written or fixed.
        assert cpu.reg("rbx") & ~0x1_0800 == read & ~0x1_0800


def test_an_instruction_breakpoint_in_ring_3() -> None:
    with Processor(LONG64, "nop; nop", cpl=3) as cpu:
        cpu.set(dr0=layout.CODE + 1, dr7=_dr7(0, _EXECUTE))
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip, trap.cs) == (
            (_DB, None),
            layout.CODE + 1,
            layout.CODE64_RING3,
        )
