"""STI, MOV SS and POP SS hold interrupts off for an instruction; NMIs are blocked until IRET.

SDM volume 3, "Masking Maskable Hardware Interrupts", "Masking Exceptions and Interrupts When
Switching Stacks", "Handling Multiple NMIs".
"""

from typing import Final

import pytest

from microv import abi_gen as mv
from microv.ops import vs
from tests.guest import layout
from tests.guest.descriptors import System, gate
from tests.guest.modes import COMPAT32, LONG64, PROTECTED32, Mode, Rflags
from tests.guest.processor import Processor

_INTERRUPT: Final = 0x50
_OPEN: Final = Rflags.FIXED | Rflags.IF
_MODES: Final = pytest.mark.parametrize("mode", [PROTECTED32, COMPAT32, LONG64], ids=str)


def _rip_of_interrupt(cpu: Processor) -> int:
    vs.queue_interrupt(cpu.vsid, _INTERRUPT)
    trap = cpu.run_to_trap()
    assert trap.vector == _INTERRUPT
    return trap.rip - layout.CODE


@_MODES
@pytest.mark.parametrize(
    ("code", "at"),
    [
        ("nop; sti; nop; nop; nop", 3),
        ("sti; sti; nop; nop", 2),
        ("sti; cli; sti; nop; nop", 4),
        ("cli; sti; mov ss, eax; nop; nop", 5),
    ],
)
def test_sti_lets_interrupts_in_behind_the_next_instruction(mode: Mode, code: str, at: int) -> None:
    with Processor(mode, code) as cpu:
        cpu.set(rax=layout.DATA32)
        assert _rip_of_interrupt(cpu) == at


@_MODES
def test_sti_with_if_set_has_no_shadow(mode: Mode) -> None:
    """The interrupt is taken before the first instruction anyway; one that comes later too."""
    with Processor(mode, "out 0x80, al; sti; nop; nop") as cpu:
        cpu.set(rflags=_OPEN)
        cpu.run_to_out()
        assert _rip_of_interrupt(cpu) == 2


def test_popf_and_iret_have_no_shadow() -> None:
    with Processor(LONG64, "popf; nop; nop") as cpu:
        cpu.set(rsp=layout.STACK_TOPS[0] - 8)
        cpu.load(layout.STACK_TOPS[0] - 8, int(_OPEN).to_bytes(8, "little"))
        assert _rip_of_interrupt(cpu) == 1
    with Processor(LONG64, "iretq; nop; nop") as cpu:
        frame = (layout.CODE + 2, layout.CODE64, int(_OPEN), 0x8000, layout.DATA32)
        cpu.set(rsp=layout.STACK_TOPS[0] - 40)
        cpu.load(layout.STACK_TOPS[0] - 40, b"".join(w.to_bytes(8, "little") for w in frame))
        assert _rip_of_interrupt(cpu) == 2


def test_an_nmi_waits_behind_mov_ss() -> None:
    """The exit in the middle shows the shadow: the guest is not interruptible there."""
    with Processor(LONG64, "mov ss, eax; out 0x80, al; nop") as cpu:
        cpu.set(rax=layout.DATA32, rflags=_OPEN)
        exit_ = vs.run(cpu.vsid)
        assert exit_.reason == mv.mv_exit_reason_t_io
        assert not exit_.interruptible
        vs.inject_exception(cpu.vsid, 2)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (2, layout.CODE + 4)


def test_a_second_nmi_waits_for_iret() -> None:
    with Processor(LONG64, "nop; hlt") as cpu:
        handler = "inc ebx; out 0x80, al; inc ecx; iretq"
        cpu.assemble(handler, at=layout.OTHER_CODE)
        cpu.put_gate(2, gate(System.INTERRUPT_GATE, layout.CODE64, layout.OTHER_CODE, wide=True))
        vs.inject_exception(cpu.vsid, 2)
        cpu.run_to_out()
        vs.inject_exception(cpu.vsid, 2)
        cpu.run_to_out()
        assert cpu.get("rbx", "rcx") == [2, 1]
        assert cpu.run_to_halt() == layout.CODE + 1
        assert cpu.get("rbx", "rcx") == [2, 2]


def test_any_iret_unblocks_nmis_even_one_in_another_handler() -> None:
    with Processor(LONG64, "nop; hlt") as cpu:
        cpu.assemble("inc ebx; out 0x80, al; int 0x41; nop; hlt", at=layout.OTHER_CODE)
        cpu.assemble("iretq", at=layout.OTHER_CODE + 0x40)
        for vector, offset in ((2, 0), (0x41, 0x40)):
            handler = layout.OTHER_CODE + offset
            cpu.put_gate(vector, gate(System.INTERRUPT_GATE, layout.CODE64, handler, wide=True))
        vs.inject_exception(cpu.vsid, 2)
        cpu.run_to_out()
        vs.inject_exception(cpu.vsid, 2)
        cpu.run_to_out()
        assert cpu.reg("rbx") == 2


def test_an_nmi_is_taken_with_if_clear() -> None:
    with Processor(LONG64, "nop; hlt") as cpu:
        vs.inject_exception(cpu.vsid, 2)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip, trap.rflags) == (2, layout.CODE, Rflags.FIXED)


@_MODES
def test_an_interrupt_ends_hlt_behind_it(mode: Mode) -> None:
    with Processor(mode, "hlt; nop; hlt") as cpu:
        cpu.set(rflags=_OPEN)
        assert cpu.run_to_halt() == layout.CODE
        assert _rip_of_interrupt(cpu) == 1


def test_an_interrupt_comes_between_the_iterations_of_a_string_instruction() -> None:
    """It is queued at the exit of the first element, and the rest is done after it."""
    with Processor(LONG64, "rep outsb; nop") as cpu:
        cpu.set(rflags=_OPEN, rcx=3, rsi=layout.DATA, rdx=0x80)
        cpu.run_to_out()
        assert _rip_of_interrupt(cpu) == 0
        assert cpu.reg("rcx") == 2


def test_cr8_does_not_hold_off_what_the_host_queues() -> None:
    """The host's interrupt controller has looked at the priority before it queues."""
    with Processor(LONG64, "nop; hlt") as cpu:
        cpu.set(rflags=_OPEN, cr8=15)
        assert _rip_of_interrupt(cpu) == 0
