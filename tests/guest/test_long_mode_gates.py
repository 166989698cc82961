"""Interrupt gates of IA-32e mode: frames, stack alignment, IST, and the refusals.

SDM volume 3, "Exception and Interrupt Handling in 64-bit Mode".
"""

import pytest

from microv.ops import vs
from tests.guest import layout
from tests.guest.descriptors import (
    CODE_RX,
    FLAT64,
    Size,
    System,
    gate,
    segment,
)
from tests.guest.modes import COMPAT16, COMPAT32, LONG64, Mode, Rflags
from tests.guest.processor import Processor

_VECTOR = 0x40
_IN_IDT = _VECTOR << 3 | 2
_GP, _NP, _SS, _TS = 13, 11, 12, 10
_HANDLER = layout.HANDLERS + _VECTOR
_FREE = layout.FREE_SELECTOR
_MODES = [COMPAT16, COMPAT32, LONG64]


def _gate(**fields: int) -> bytes:
    kind = fields.pop("kind", System.INTERRUPT_GATE)
    selector = fields.pop("selector", layout.CODE64)
    ist = fields.pop("ist", 0)
    offset = fields.pop("offset", _HANDLER)
    present = bool(fields.pop("present", 1))
    return gate(kind, selector, offset, dpl=3, low_byte4=ist, present=present, wide=True)


@pytest.mark.parametrize("mode", _MODES, ids=str)
@pytest.mark.parametrize("cpl", [0, 3])
@pytest.mark.parametrize("unaligned", [0, 3, 8, 15])
def test_an_interrupt_always_pushes_five_quadwords_on_an_aligned_stack(
    mode: Mode, cpl: int, unaligned: int
) -> None:
    with Processor(mode, f"int {_VECTOR}", cpl=cpl) as cpu:
        rsp = layout.STACK_TOPS[cpl] - unaligned
        flags = Rflags.FIXED | Rflags.IF | Rflags.NT | Rflags.OF
        cpu.set(rsp=rsp, rflags=flags)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip, trap.cs) == (_VECTOR, layout.CODE + 2, mode.code[cpl])
        top = layout.STACK_TOPS[0] if cpl else rsp & ~15
        assert cpu.reg("rsp") == top - 40
        assert cpu.words(top - 16, 8, 2) == [rsp, mode.data[cpl]]
        assert trap.rflags == flags
        assert cpu.reg("rflags") == Rflags.FIXED | Rflags.OF
        assert cpu.hidden("ss")[0] == (0 if cpl else mode.data[0])


@pytest.mark.parametrize("cpl", [0, 3])
def test_an_error_code_is_a_quadword_too(cpl: int) -> None:
    with Processor(LONG64, "mov ds, ax", cpl=cpl) as cpu:
        cpu.set(rax=0x3F8)
        trap = cpu.run_to_trap()
        assert trap.fault == (_GP, 0x3F8)
        assert cpu.reg("rsp") == layout.STACK_TOPS[0] - 48
        assert (trap.rsp, trap.ss) in [
            (layout.STACK_TOPS[3], layout.DATA32_RING3),
            (None, None),
            (layout.STACK_TOPS[0], layout.DATA32),
        ]


@pytest.mark.parametrize("cpl", [0, 3])
@pytest.mark.parametrize(("ist", "top"), [(1, layout.IST1_TOP), (2, layout.IST2_TOP)])
def test_an_ist_stack_is_taken_whatever_the_privilege(cpl: int, ist: int, top: int) -> None:
    with Processor(LONG64, f"int {_VECTOR}", cpl=cpl) as cpu:
        cpu.put_gate(_VECTOR, _gate(ist=ist))
        cpu.run_to_halt()
        assert cpu.reg("rsp") == top - 40
        assert cpu.words(top - 16, 8, 1) == [layout.STACK_TOPS[cpl]]


def test_an_ist_entry_beyond_the_tss_is_an_invalid_tss() -> None:
    with Processor(LONG64, f"int {_VECTOR}") as cpu:
        cpu.put_gate(_VECTOR, _gate(ist=2))
        cpu.set(tr_limit=0x24 + 16 - 2)
        assert cpu.run_to_trap().fault == (_TS, layout.TSS_SELECTOR)


def test_a_non_canonical_ist_stack_is_a_stack_fault() -> None:
    with Processor(LONG64, f"int {_VECTOR}") as cpu:
        cpu.put_gate(_VECTOR, _gate(ist=2))
        cpu.load(layout.TSS + 0x24 + 8, ((1 << 47) + 0x1000).to_bytes(8, "little"))
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_SS, 0), layout.CODE)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"present": 0}, (_NP, _IN_IDT)),
        ({"kind": System.INTERRUPT_GATE16}, (_GP, _IN_IDT)),
        ({"kind": System.TASK_GATE}, (_GP, _IN_IDT)),
        ({"kind": System.CALL_GATE}, (_GP, _IN_IDT)),
        ({"kind": 0}, (_GP, _IN_IDT)),
        ({"selector": 0}, (_GP, 0)),
        ({"selector": 0x3F8}, (_GP, 0x3F8)),
        ({"selector": layout.CODE32}, (_GP, layout.CODE32)),
        ({"selector": layout.CODE16}, (_GP, layout.CODE16)),
        ({"selector": layout.DATA32}, (_GP, layout.DATA32)),
        ({"selector": layout.CODE64_RING3}, (_GP, layout.CODE64_RING3 & ~3)),
    ],
)
@pytest.mark.parametrize("source", ["software", "external"])
def test_what_is_wrong_with_a_gate_is_in_the_error_code(
    fields: dict[str, int], fault: tuple[int, int], source: str
) -> None:
    ext = int(source == "external")
    with Processor(LONG64, f"int {_VECTOR}" if not ext else "nop; hlt") as cpu:
        cpu.put_gate(_VECTOR, _gate(**fields))
        if ext:
            cpu.set(rflags=Rflags.FIXED | Rflags.IF)
            vs.queue_interrupt(cpu.vsid, _VECTOR)
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((fault[0], fault[1] | ext), layout.CODE)


def test_a_handler_at_a_non_canonical_address_is_a_general_protection_fault() -> None:
    with Processor(LONG64, f"int {_VECTOR}") as cpu:
        cpu.put_gate(_VECTOR, _gate(offset=1 << 47))
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_GP, 0), layout.CODE)


def test_code_with_both_l_and_d_cannot_handle_interrupts() -> None:
    with Processor(LONG64, f"int {_VECTOR}") as cpu:
        cpu.put_descriptor(_FREE, segment(CODE_RX, FLAT64 | Size.BITS32))
        cpu.put_gate(_VECTOR, _gate(selector=_FREE))
        assert cpu.run_to_trap().fault == (_GP, _FREE)


def test_a_conforming_handler_runs_at_the_privilege_of_the_interrupted_code() -> None:
    with Processor(LONG64, f"int {_VECTOR}", cpl=3) as cpu:
        cpu.put_gate(_VECTOR, _gate(selector=layout.CODE64_CONFORMING))
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.cs) == ((_GP, 0), layout.CODE64_CONFORMING | 3)
        assert trap.rsp == layout.STACK_TOPS[3] - 40


@pytest.mark.parametrize("limit", [_VECTOR * 16 + 14, _VECTOR * 16 + 7])
def test_a_vector_beyond_the_idt_limit_is_refused(limit: int) -> None:
    with Processor(LONG64, f"int {_VECTOR}") as cpu:
        cpu.set(idtr_limit=limit)
        assert cpu.run_to_trap().fault == (_GP, _IN_IDT)


@pytest.mark.parametrize("code", ["into", "bound eax, [ebx]"])
def test_instructions_that_64_bit_code_lost(code: str) -> None:
    encoding = {"into": b"\xce", "bound eax, [ebx]": b"\x62\x03"}[code]
    with Processor(LONG64) as cpu:
        cpu.load(layout.CODE, encoding + bytes(4))
        assert cpu.run_to_trap().vector == 6


def test_a_compatibility_mode_program_is_interrupted_and_goes_on() -> None:
    with Processor(COMPAT32, f"int {_VECTOR}; mov ebx, 7; int 0x41", cpl=3) as cpu:
        cpu.assemble("mov ecx, 0x55; iretq", at=layout.OTHER_CODE, bits=64)
        cpu.put_gate(_VECTOR, _gate(offset=layout.OTHER_CODE))
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.cs) == (0x41, layout.CODE32_RING3)
        assert (trap.rsp, trap.ss) == (layout.STACK_TOPS[3], layout.DATA32_RING3)
        assert cpu.get("rbx", "rcx") == [7, 0x55]
