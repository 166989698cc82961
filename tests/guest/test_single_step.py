"""RFLAGS.TF: where the trap comes, where it does not, and what is in DR6.

SDM volume 3, "Single-Step Exception Condition", "Masking Exceptions and Interrupts When Switching
Stacks", "Debug Status Register (DR6)".
"""

from typing import Final

import pytest

from tests.guest import layout
from tests.guest.descriptors import System, gate
from tests.guest.modes import COMPAT32, LONG64, PROTECTED16, PROTECTED32, Mode, Rflags
from tests.guest.processor import Processor, Trap

_DB: Final = 1
_BS: Final = 0xFFFF_4FF0
_NONE: Final = 0xFFFF_0FF0
_STEPPING: Final = Rflags.FIXED | Rflags.TF
_ANY_MODE: Final = pytest.mark.parametrize(
    "mode", [PROTECTED16, PROTECTED32, COMPAT32, LONG64], ids=str
)


def _step(cpu: Processor) -> Trap:
    """To the next trap, which must be a single step; the guest then goes on."""
    trap = cpu.run_to_trap()
    assert (trap.vector, cpu.reg("dr6")) == (_DB, _BS)
    cpu.set(dr6=_NONE)
    cpu.resume(trap)
    return trap


def _steps(cpu: Processor, count: int) -> list[int]:
    """Distances from CODE at which the next traps come."""
    return [_step(cpu).rip - layout.CODE for _ in range(count)]


def _stepping(mode: Mode, code: str, *, cpl: int = 0) -> Processor:
    cpu = Processor(mode, code, cpl=cpl)
    cpu.set(rflags=_STEPPING | Rflags.IOPL3, rax=layout.DATA32, rdx=0x80)
    cpu.set(rsi=layout.DATA, rdi=layout.DATA + 0x100, rcx=3)
    return cpu


@_ANY_MODE
@pytest.mark.parametrize("cpl", [0, 3])
def test_each_instruction_is_followed_by_a_trap(mode: Mode, cpl: int) -> None:
    with _stepping(mode, "nop; .byte 0xeb, 1; nop; cld; nop", cpl=cpl) as cpu:
        assert _steps(cpu, 4) == [1, 4, 5, 6]


@_ANY_MODE
@pytest.mark.parametrize(
    ("instruction", "iterations"),
    [("rep movsb", 3), ("rep stosb", 3), ("rep lodsb", 3), ("repe cmpsb", 3), ("repne scasb", 3)],
)
def test_a_repeated_string_instruction_traps_after_each_iteration(
    mode: Mode, instruction: str, iterations: int
) -> None:
    with _stepping(mode, f"{instruction}; nop") as cpu:
        cpu.set(rax=0x55)
        assert _steps(cpu, iterations) == [0] * (iterations - 1) + [2]
        assert cpu.reg("rcx") == 0


def test_a_repeat_count_of_zero_is_one_step() -> None:
    with _stepping(LONG64, "rep movsb; nop") as cpu:
        cpu.set(rcx=0)
        assert _steps(cpu, 2) == [2, 3]


@_ANY_MODE
def test_a_load_of_ss_delays_the_trap_by_one_instruction(mode: Mode) -> None:
    with _stepping(mode, "mov ss, ax; nop; nop") as cpu:
        assert _steps(cpu, 2) == [3, 4]


def test_pop_ss_delays_the_trap_too_but_only_the_first_of_two() -> None:
    with _stepping(PROTECTED32, "pop ss; pop ss; nop; nop") as cpu:
        cpu.set(rsp=layout.STACK_TOPS[0] - 8)
        cpu.load(layout.STACK_TOPS[0] - 8, layout.DATA32.to_bytes(4, "little") * 2)
        assert _steps(cpu, 2) == [2, 3]


def test_sti_delays_no_trap() -> None:
    with _stepping(LONG64, "sti; nop") as cpu:
        assert _steps(cpu, 2) == [1, 2]


def test_popf_that_clears_tf_is_followed_by_a_last_trap() -> None:
    with _stepping(LONG64, "popf; nop; hlt") as cpu:
        cpu.set(rsp=layout.STACK_TOPS[0] - 8)
        cpu.load(layout.STACK_TOPS[0] - 8, int(Rflags.FIXED).to_bytes(8, "little"))
        assert _steps(cpu, 1) == [1]
        assert cpu.run_to_halt() == layout.CODE + 2


@_ANY_MODE
def test_popf_that_sets_tf_is_not_followed_by_a_trap(mode: Mode) -> None:
    with Processor(mode, "popf; nop; nop") as cpu:
        cpu.set(rsp=layout.STACK_TOPS[0] - 8)
        cpu.load(layout.STACK_TOPS[0] - 8, int(_STEPPING).to_bytes(8, "little"))
        assert _steps(cpu, 2) == [2, 3]


def test_iret_that_sets_tf_traps_behind_the_next_instruction() -> None:
    with Processor(LONG64, "iretq; nop; nop") as cpu:
        frame = (layout.CODE + 2, layout.CODE64, int(_STEPPING), 0x8000, layout.DATA32)
        cpu.set(rsp=layout.STACK_TOPS[0] - 40)
        cpu.load(layout.STACK_TOPS[0] - 40, b"".join(w.to_bytes(8, "little") for w in frame))
        assert _steps(cpu, 2) == [3, 4]


@_ANY_MODE
def test_a_software_interrupt_clears_tf_and_its_handler_is_not_stepped(mode: Mode) -> None:
    with _stepping(mode, "int 0x40; nop") as cpu:
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (0x40, layout.CODE + 2)
        assert trap.rflags & Rflags.TF
        assert cpu.reg("dr6") == _NONE
        cpu.resume(trap)
        assert _steps(cpu, 1) == [3]


def test_a_stepped_handler_goes_on_in_the_interrupted_program() -> None:
    """IRET puts TF back: the trap comes behind the instruction after INT n."""
    with _stepping(LONG64, "int 0x40; nop; nop") as cpu:
        cpu.assemble("iretq", at=layout.OTHER_CODE)
        cpu.put_gate(0x40, gate(System.INTERRUPT_GATE, layout.CODE64, layout.OTHER_CODE, wide=True))
        assert _steps(cpu, 1) == [3]


@pytest.mark.parametrize(
    ("code", "vector"), [("ud2", 6), ("div ebx", 0), ("mov fs, bp", 13), ("mov cr0, rdx", 13)]
)
def test_an_instruction_that_faults_is_not_followed_by_a_trap(code: str, vector: int) -> None:
    with _stepping(LONG64, code) as cpu:
        cpu.set(rbp=0x3F0, rdx=1 << 63)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (vector, layout.CODE)
        assert trap.rflags & Rflags.TF
        assert cpu.reg("dr6") == _NONE


def test_out_traps_when_its_exit_is_completed() -> None:
    with _stepping(LONG64, "out 0x80, al; nop") as cpu:
        assert cpu.run_to_out().port == 0x80
        assert _steps(cpu, 2) == [2, 3]


def test_rep_outs_traps_after_each_element() -> None:
    with _stepping(LONG64, "rep outsb; nop") as cpu:
        found = []
        for _ in range(3):
            cpu.run_to_out()
            found += _steps(cpu, 1)
        assert found == [0, 0, 2]


@pytest.mark.parametrize("mode", [PROTECTED32, LONG64], ids=str)
def test_int1_sets_no_bit_of_dr6(mode: Mode) -> None:
    with Processor(mode, ".byte 0xf1; nop") as cpu:
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_DB, None), layout.CODE + 1)
        assert cpu.reg("dr6") == _NONE


def test_pushf_shows_tf() -> None:
    with _stepping(LONG64, "pushf; nop") as cpu:
        _step(cpu)
        assert cpu.words(layout.STACK_TOPS[0] - 8, 8, 1) == [_STEPPING | Rflags.IOPL3]


def test_bits_of_dr6_stay_set_but_those_of_breakpoints() -> None:
    with _stepping(LONG64, "nop; nop") as cpu:
        cpu.set(dr6=_NONE | 0xA005)
        cpu.run_to_trap()
        assert cpu.reg("dr6") == _BS | 0xA000


def test_a_far_transfer_to_another_privilege_is_stepped() -> None:
    with _stepping(PROTECTED32, "retf") as cpu:
        cpu.assemble("nop; nop", at=layout.OTHER_CODE)
        frame = (layout.OTHER_CODE, layout.CODE32_RING3, layout.STACK_TOPS[3])
        words = (*frame, layout.DATA32_RING3)
        cpu.set(rsp=layout.STACK_TOPS[0] - 16)
        cpu.load(layout.STACK_TOPS[0] - 16, b"".join(w.to_bytes(4, "little") for w in words))
        trap = _step(cpu)
        assert (trap.rip, trap.cs) == (layout.OTHER_CODE, layout.CODE32_RING3)
        assert _step(cpu).rip == layout.OTHER_CODE + 1
