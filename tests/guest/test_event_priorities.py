"""Which of several events at once comes first.

SDM volume 3, "Priority Among Concurrent Events": traps of the previous instruction, NMI,
interrupts, code breakpoints, faults of fetching, of decoding, of executing.
"""

from dataclasses import dataclass
from typing import Final

import pytest

from microv.ops import vs
from tests.guest import layout
from tests.guest.modes import LONG64, PAGED32, PROTECTED32, REAL, Cr0, Cr4, Mode, Rflags
from tests.guest.processor import Processor

_UNMAPPED: Final = layout.FAR_DATA
_DE, _DB, _BR, _UD, _NM, _TS, _NP, _SS, _GP, _PF = 0, 1, 5, 6, 7, 10, 11, 12, 13, 14
_INTERRUPT: Final = 0x50
_NON_CANONICAL: Final = 1 << 62


@dataclass(frozen=True)
class Contest:
    """Code whose execution could raise several faults; EBX points to a page that is not there.

    `loser` says what must not come.
    """

    winner: int
    loser: str
    code: str
    mode: Mode = LONG64
    cpl: int = 0
    cr0: int = 0
    rbx: int = _UNMAPPED


_CONTESTS: Final = [
    # Decoding before executing.
    Contest(_UD, "#PF of the operand", "lock; mov [rbx], eax"),
    Contest(_UD, "#PF of the operand", ".byte 0xf0, 0x0f, 0xba, 0x23, 1"),
    Contest(_UD, "#GP of the privilege", ".byte 0xf0; hlt", cpl=3),
    Contest(_UD, "#GP of the privilege", ".byte 0x0f, 0x22, 0xe8", cpl=3),
    Contest(_UD, "#PF of the operand", ".byte 0x8e, 0x0b"),
    Contest(_UD, "#PF of the operand", ".byte 0x8e, 0x33"),
    Contest(_UD, "#GP of the privilege", "ltr ax", mode=REAL),
    Contest(_UD, "#GP of the limit", ".byte 0x8f, 0x0f, 0xff, 0xff", mode=REAL),
    Contest(_GP, "#UD of the opcode", ".rept 15; .byte 0x66; .endr; .byte 0x0f, 0x0b"),
    Contest(_GP, "#PF of the operand", ".rept 14; .byte 0x66; .endr; mov eax, [rbx]"),
    Contest(_GP, "#NM", ".rept 14; .byte 0x66; .endr; fnop", cr0=Cr0.TS),
    Contest(_NM, "#PF of the operand", "fld dword ptr [rbx]", cr0=Cr0.TS),
    Contest(_NM, "#PF of the operand", "fld dword ptr [rbx]", cr0=Cr0.EM),
    Contest(_NM, "#GP of the address", "fld dword ptr [rbx]", cr0=Cr0.TS, rbx=_NON_CANONICAL),
    Contest(_NM, "#PF of the operand", "fxsave [rbx]", cr0=Cr0.TS),
    Contest(_UD, "#NM", "movaps xmm0, [rbx]", cr0=Cr0.TS | Cr0.EM),
    Contest(_UD, "#NM of CR0.EM", ".byte 0xf0; fld dword ptr [rbx]", cr0=Cr0.EM),
    # Privilege before memory.
    Contest(_GP, "#PF of the operand", "lgdt [rbx]", cpl=3),
    Contest(_GP, "#PF of the operand", "lidt [rbx]", cpl=3),
    Contest(_GP, "#PF of the operand", "lmsw [rbx]", cpl=3),
    Contest(_GP, "#PF of the operand", "lldt [rbx]", cpl=3),
    Contest(_GP, "#PF of the operand", "ltr [rbx]", cpl=3),
    Contest(_GP, "#PF of the operand", "mov rdi, rbx; insb", cpl=3),
    Contest(_GP, "#PF of the operand", "mov rsi, rbx; outsb", cpl=3),
    # The segment before the page.
    Contest(_GP, "#PF", "mov eax, cs:[ebx]; mov cs:[ebx], eax", mode=PAGED32, rbx=layout.DATA),
    Contest(_GP, "#PF", "mov cs:[ebx], eax", mode=PAGED32),
    # Memory before what is computed from it.
    Contest(_PF, "#DE", "div dword ptr [rbx]"),
    Contest(_PF, "#BR", "bound eax, [ebx]", mode=PAGED32),
    Contest(_PF, "#GP of the selector", "mov fs, [rbx]"),
    Contest(_PF, "#GP of the selector", "lss eax, [rbx]"),
    Contest(_PF, "#GP of the target", "jmp fword ptr [rbx]"),
    Contest(_PF, "#DB of the step", "mov eax, [rbx]"),
]


@pytest.mark.parametrize(
    "contest", _CONTESTS, ids=lambda contest: f"{contest.winner}-{contest.code}"
)
def test_the_fault_of_higher_priority_comes(contest: Contest) -> None:
    with Processor(contest.mode, contest.code, cpl=contest.cpl) as cpu:
        cpu.tables.set_page(_UNMAPPED, 0)
        cpu.refresh_tables()
        cpu.set(cr0=cpu.mode.cr0 | contest.cr0, cr4=cpu.mode.cr4 | Cr4.OSFXSR)
        cpu.set(rbx=contest.rbx, rax=0x3F8)
        assert cpu.run_to_trap().vector == contest.winner, f"not {contest.loser}"


@pytest.mark.parametrize(
    ("before_end", "code", "vector"),
    [
        # Fifteen bytes are enough to know that there are too many.
        (15, b"\x66" * 15, _GP),
        (14, b"\x66" * 14, _PF),
        (2, b"\x0f\x0b", _UD),
        (1, b"\x0f", _PF),
        (2, b"\x48\x8b", _PF),
        (3, b"\x48\x8b\x04", _PF),
        (1, b"\xf4", None),
    ],
)
def test_bytes_of_the_next_page_are_fetched_only_if_they_are_needed(
    before_end: int, code: bytes, vector: int | None
) -> None:
    start = _UNMAPPED - before_end
    with Processor(LONG64) as cpu:
        cpu.tables.set_page(_UNMAPPED, 0)
        cpu.refresh_tables()
        cpu.load(start, code)
        cpu.set(rip=start)
        if vector is None:
            assert cpu.run_to_halt() == start
            return
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (vector, start)
        if vector == _PF:
            assert (trap.error_code, cpu.reg("cr2")) == (0x10, _UNMAPPED)


def test_a_code_breakpoint_comes_before_the_fault_of_the_fetch() -> None:
    with Processor(LONG64) as cpu:
        cpu.tables.set_page(_UNMAPPED, 0)
        cpu.refresh_tables()
        cpu.set(rip=_UNMAPPED, dr0=_UNMAPPED, dr7=0x402)
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_DB, None), _UNMAPPED)
        cpu.resume(trap)
        cpu.set(rflags=Rflags.FIXED | Rflags.RF)
        assert cpu.run_to_trap().fault == (_PF, 0x10)


def test_a_code_breakpoint_comes_before_the_limit_of_the_segment() -> None:
    with Processor(PROTECTED32) as cpu:
        cpu.set(cs_limit=layout.CODE - 1, dr0=layout.CODE, dr7=0x402)
        assert cpu.run_to_trap().vector == _DB
        cpu.start()
        cpu.set(cs_limit=layout.CODE - 1)
        assert cpu.run_to_trap().fault == (_GP, 0)


def test_the_limit_of_the_segment_comes_before_the_fault_of_the_fetch() -> None:
    with Processor(PAGED32) as cpu:
        cpu.tables.set_page(_UNMAPPED, 0)
        cpu.refresh_tables()
        cpu.load(_UNMAPPED - 1, b"\xb8")
        cpu.set(rip=_UNMAPPED - 1, cs_limit=_UNMAPPED - 1)
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_GP, 0), _UNMAPPED - 1)


def test_the_step_of_an_instruction_comes_before_a_breakpoint_on_the_next() -> None:
    with Processor(LONG64, "nop; nop; hlt") as cpu:
        cpu.set(dr0=layout.CODE + 1, dr7=0x402, rflags=Rflags.FIXED | Rflags.TF)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (_DB, layout.CODE + 1)
        assert cpu.reg("dr6") & 0x4000
        cpu.resume(trap)
        cpu.set(rflags=Rflags.FIXED, dr6=0xFFFF_0FF0)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip, cpu.reg("dr6")) == (_DB, layout.CODE + 1, 0xFFFF_0FF1)


def test_an_nmi_comes_before_an_interrupt() -> None:
    """The handler of the NMI is interrupted at its first instruction only if it lets it."""
    with Processor(LONG64, "nop; hlt") as cpu:
        cpu.set(rflags=Rflags.FIXED | Rflags.IF)
        vs.queue_interrupt(cpu.vsid, _INTERRUPT)
        vs.inject_exception(cpu.vsid, 2)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (2, layout.CODE)
        assert vs.queued_interrupt(cpu.vsid) == _INTERRUPT


def test_an_interrupt_comes_before_a_code_breakpoint_and_the_fault_of_a_fetch() -> None:
    with Processor(LONG64) as cpu:
        cpu.set(rip=_NON_CANONICAL, dr0=_NON_CANONICAL, dr7=0x402)
        cpu.set(rflags=Rflags.FIXED | Rflags.IF)
        vs.queue_interrupt(cpu.vsid, _INTERRUPT)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (_INTERRUPT, _NON_CANONICAL)


def test_the_step_of_an_instruction_comes_before_an_interrupt() -> None:
    """OUT leaves the guest in the middle of a stepped instruction; then the interrupt comes."""
    with Processor(LONG64, "out 0x80, al; nop") as cpu:
        cpu.set(rflags=Rflags.FIXED | Rflags.IF | Rflags.TF)
        cpu.run_to_out()
        vs.queue_interrupt(cpu.vsid, _INTERRUPT)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (_DB, layout.CODE + 2)
        assert vs.queued_interrupt(cpu.vsid) == _INTERRUPT


def test_a_fault_leaves_an_interrupt_for_the_handler() -> None:
    with Processor(LONG64, "sti; ud2") as cpu:
        vs.queue_interrupt(cpu.vsid, _INTERRUPT)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (_UD, layout.CODE + 1)
        assert trap.rflags & Rflags.IF
        assert vs.queued_interrupt(cpu.vsid) == _INTERRUPT
