"""Interrupt and trap gates of protected mode: frames, flags, stacks, and every refusal.

SDM volume 3, "Exception- or Interrupt-Handler Procedures", "Error Code"; volume 2, "INT n/INTO/
INT3/INT1—Call to Interrupt Procedure".
"""

import pytest

from microv.ops import vs
from tests.guest import layout
from tests.guest.descriptors import CODE_RX, DATA_RW, Size, System, gate, segment, system
from tests.guest.modes import PROTECTED16, PROTECTED32, Mode, Rflags
from tests.guest.processor import Processor

_VECTOR = 0x40
_IN_IDT = _VECTOR << 3 | 2
_GP, _NP, _SS, _TS = 13, 11, 12, 10
_SET = Rflags.FIXED | Rflags.CF | Rflags.IF | Rflags.NT | Rflags.AC
_HANDLER = layout.HANDLERS + _VECTOR
_FREE = layout.FREE_SELECTOR


@pytest.mark.parametrize("mode", [PROTECTED16, PROTECTED32], ids=str)
@pytest.mark.parametrize("cpl", [0, 3])
@pytest.mark.parametrize(
    ("kind", "size", "if_after"),
    [
        (System.INTERRUPT_GATE, 4, 0),
        (System.TRAP_GATE, 4, Rflags.IF),
        (System.INTERRUPT_GATE16, 2, 0),
        (System.TRAP_GATE16, 2, Rflags.IF),
    ],
)
def test_a_gate_pushes_words_of_its_size(
    mode: Mode, cpl: int, kind: System, size: int, if_after: int
) -> None:
    with Processor(mode, f"int {_VECTOR}", cpl=cpl) as cpu:
        cpu.put_gate(_VECTOR, gate(kind, layout.CODE32, _HANDLER, dpl=3))
        cpu.set(rflags=_SET)
        assert cpu.run_to_halt() == _HANDLER
        pushed = [layout.CODE + 2, mode.code[cpl], _SET]
        if cpl:
            pushed += [layout.STACK_TOPS[3], mode.data[3]]
        mask = (1 << 8 * size) - 1
        rsp = layout.STACK_TOPS[0] - size * len(pushed)
        assert cpu.reg("rsp") == rsp
        assert cpu.words(rsp, size, len(pushed)) == [word & mask for word in pushed]
        assert cpu.reg("rflags") == Rflags.FIXED | Rflags.CF | Rflags.AC | if_after
        assert cpu.reg("cs_selector") == layout.CODE32


@pytest.mark.parametrize(
    ("level", "code", "stack"),
    [
        (1, layout.CODE32_RING1, layout.DATA32_RING1),
        (2, layout.CODE32_RING2, layout.DATA32_RING2),
    ],
)
def test_the_stack_of_the_handlers_level_comes_from_the_tss(
    level: int, code: int, stack: int
) -> None:
    """HLT of the handler faults in its ring; ring 0 then finds the frame of that fault."""
    with Processor(PROTECTED32, f"int {_VECTOR}", cpl=3) as cpu:
        cpu.put_gate(_VECTOR, gate(System.INTERRUPT_GATE, code, _HANDLER, dpl=3))
        trap = cpu.run_to_trap()
        rsp = layout.STACK_TOPS[level] - 20
        assert (trap.fault, trap.cs, trap.rip) == ((_GP, 0), code, _HANDLER)
        assert (trap.ss, trap.rsp) == (stack, rsp)
        assert cpu.words(rsp, 4, 5) == [
            layout.CODE + 2,
            layout.CODE32_RING3,
            Rflags.FIXED,
            layout.STACK_TOPS[3],
            layout.DATA32_RING3,
        ]


def test_a_conforming_handler_keeps_the_privilege_and_the_stack() -> None:
    with Processor(PROTECTED32, f"int {_VECTOR}", cpl=3) as cpu:
        selector = layout.CODE32_CONFORMING
        cpu.put_gate(_VECTOR, gate(System.INTERRUPT_GATE, selector, _HANDLER, dpl=3))
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.cs, trap.rip) == ((_GP, 0), selector | 3, _HANDLER)
        assert trap.rsp == layout.STACK_TOPS[3] - 12


@pytest.mark.parametrize("cpl", [0, 1, 2, 3])
@pytest.mark.parametrize("dpl", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("code", "vector", "length"),
    [(f"int {_VECTOR}", _VECTOR, 2), ("int3", 3, 1), ("into", 4, 1), (".byte 0xcd, 3", 3, 2)],
)
def test_software_interrupts_want_a_gate_with_dpl_of_the_cpl_or_above(
    cpl: int, dpl: int, code: str, vector: int, length: int
) -> None:
    with Processor(PROTECTED32, code, cpl=cpl) as cpu:
        handler = layout.HANDLERS + vector
        cpu.put_gate(vector, gate(System.INTERRUPT_GATE, layout.CODE32, handler, dpl=dpl))
        cpu.set(rflags=Rflags.FIXED | Rflags.OF)
        trap = cpu.run_to_trap()
        if dpl >= cpl:
            assert (trap.fault, trap.rip) == ((vector, None), layout.CODE + length)
        else:
            assert (trap.fault, trap.rip) == ((_GP, vector << 3 | 2), layout.CODE)


@pytest.mark.parametrize(
    ("code", "vector"),
    [("ud2", 6), (".byte 0xf1", 1), ("sub ecx, ecx; div ecx", 0), ("mov eax, cr0", 13)],
)
def test_exceptions_do_not_look_at_the_dpl(code: str, vector: int) -> None:
    with Processor(PROTECTED32, code, cpl=3) as cpu:
        handler = layout.HANDLERS + vector
        cpu.put_gate(vector, gate(System.INTERRUPT_GATE, layout.CODE32, handler, dpl=0))
        assert cpu.run_to_trap().vector == vector


def test_into_without_overflow_does_nothing() -> None:
    with Processor(PROTECTED32, "into; hlt") as cpu:
        assert cpu.run_to_halt() == layout.CODE + 1


@pytest.mark.parametrize(("index", "faults"), [(-3, True), (-2, False), (5, False), (6, True)])
@pytest.mark.parametrize("width", [2, 4])
def test_bound_faults_outside_its_bounds(index: int, faults: bool, width: int) -> None:
    register = {2: "ax", 4: "eax"}[width]
    with Processor(PROTECTED32, f"bound {register}, [{layout.DATA:#x}]; hlt") as cpu:
        bounds = (-2).to_bytes(width, "little", signed=True) + (5).to_bytes(width, "little")
        cpu.load(layout.DATA, bounds)
        cpu.set(rax=index & (1 << 8 * width) - 1)
        if faults:
            trap = cpu.run_to_trap()
            assert (trap.fault, trap.rip) == ((5, None), layout.CODE)
        else:
            assert cpu.run_to_halt() >= layout.CODE + 6


_FREE_CODE = {
    "not_present": segment(CODE_RX, present=False),
    "data": segment(DATA_RW),
    "dpl3": segment(CODE_RX, dpl=3),
    "ldt": system(System.LDT, layout.LDT, 0xFF),
}


@pytest.mark.parametrize(
    ("descriptor", "fault"),
    [
        (gate(System.INTERRUPT_GATE, layout.CODE32, 0, present=False), (_NP, _IN_IDT)),
        (gate(System.INTERRUPT_GATE, layout.CODE32, 0), None),
        (gate(System.CALL_GATE, layout.CODE32, 0), (_GP, _IN_IDT)),
        (gate(System.LDT, layout.CODE32, 0), (_GP, _IN_IDT)),
        (gate(System.CALL_GATE, layout.CODE32, 0, present=False), (_GP, _IN_IDT)),
        (gate(0, layout.CODE32, 0), (_GP, _IN_IDT)),
        (gate(0x10 | System.INTERRUPT_GATE, layout.CODE32, 0), (_GP, _IN_IDT)),
        (gate(System.INTERRUPT_GATE, 0, 0), (_GP, 0)),
        (gate(System.INTERRUPT_GATE, 3, 0), (_GP, 0)),
        (gate(System.INTERRUPT_GATE, 0x3F8 | 1, 0), (_GP, 0x3F8)),
        (gate(System.INTERRUPT_GATE, 0x400 | 4, 0), (_GP, 0x404)),
        (gate(System.INTERRUPT_GATE, 0xF00 | 4, 0), (_GP, 0xF04)),
        (gate(System.INTERRUPT_GATE, layout.DATA32, 0), (_GP, layout.DATA32)),
    ],
)
@pytest.mark.parametrize("source", ["software", "external"])
def test_what_is_wrong_with_a_gate_is_in_the_error_code(
    descriptor: bytes, fault: tuple[int, int] | None, source: str
) -> None:
    """EXT is set where the event came from outside."""
    ext = int(source == "external")
    with Processor(PROTECTED32, f"int {_VECTOR}" if not ext else "nop; hlt") as cpu:
        cpu.put_gate(_VECTOR, descriptor)
        cpu.load(0, b"\xf4")
        if ext:
            cpu.set(rflags=Rflags.FIXED | Rflags.IF)
            vs.queue_interrupt(cpu.vsid, _VECTOR)
        if fault is None:
            assert cpu.run_to_halt() == 0
        else:
            trap = cpu.run_to_trap()
            assert (trap.fault, trap.rip) == ((fault[0], fault[1] | ext), layout.CODE)


@pytest.mark.parametrize(
    ("name", "vector"), [("not_present", _NP), ("data", _GP), ("dpl3", _GP), ("ldt", _GP)]
)
def test_a_handlers_segment_must_be_present_code_of_no_lower_privilege(
    name: str, vector: int
) -> None:
    with Processor(PROTECTED32, f"int {_VECTOR}") as cpu:
        cpu.put_descriptor(_FREE, _FREE_CODE[name])
        cpu.put_gate(_VECTOR, gate(System.INTERRUPT_GATE, _FREE | 3, _HANDLER))
        assert cpu.run_to_trap().fault == (vector, _FREE)


def test_an_offset_beyond_the_handlers_segment_is_a_general_protection_fault() -> None:
    with Processor(PROTECTED32, f"int {_VECTOR}") as cpu:
        cpu.put_gate(_VECTOR, gate(System.INTERRUPT_GATE, layout.CODE16, 0x1_0000))
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_GP, 0), layout.CODE)


@pytest.mark.parametrize("limit", [_VECTOR * 8 + 6, _VECTOR * 8 - 1])
def test_a_vector_beyond_the_idt_limit_is_refused(limit: int) -> None:
    with Processor(PROTECTED32, f"int {_VECTOR}") as cpu:
        cpu.set(idtr_limit=limit)
        assert cpu.run_to_trap().fault == (_GP, _IN_IDT)


_STACKS = {
    "null": (b"", 0, (_TS, 0)),
    "beyond": (b"", 0x3FF8, (_TS, 0x3FF8)),
    "rpl": (segment(DATA_RW, dpl=1), _FREE | 2, (_TS, _FREE)),
    "dpl": (segment(DATA_RW, dpl=0), _FREE | 1, (_TS, _FREE)),
    "read_only": (segment(1, dpl=1), _FREE | 1, (_TS, _FREE)),
    "code": (segment(CODE_RX, dpl=1), _FREE | 1, (_TS, _FREE)),
    "not_present": (segment(DATA_RW, dpl=1, present=False), _FREE | 1, (_SS, _FREE)),
}


@pytest.mark.parametrize("name", _STACKS)
def test_a_bad_stack_segment_in_the_tss(name: str) -> None:
    """The handler is in ring 1, so that the fault finds the good stack of ring 0."""
    descriptor, selector, fault = _STACKS[name]
    with Processor(PROTECTED32, f"int {_VECTOR}", cpl=3) as cpu:
        cpu.put_gate(_VECTOR, gate(System.INTERRUPT_GATE, layout.CODE32_RING1, _HANDLER, dpl=3))
        cpu.put_descriptor(_FREE, descriptor)
        cpu.load(layout.TSS + 4 + 8 + 4, selector.to_bytes(4, "little"))
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip, trap.cs) == (fault, layout.CODE, layout.CODE32_RING3)


def test_a_tss_too_short_for_the_stack() -> None:
    with Processor(PROTECTED32, f"int {_VECTOR}", cpl=3) as cpu:
        cpu.put_gate(_VECTOR, gate(System.INTERRUPT_GATE, layout.CODE32_RING1, _HANDLER, dpl=3))
        cpu.set(tr_limit=4 + 8 + 4)
        assert cpu.run_to_trap().fault == (_TS, layout.TSS_SELECTOR)


def test_a_16_bit_tss_gives_16_bit_stacks() -> None:
    with Processor(PROTECTED32, f"int {_VECTOR}", cpl=3) as cpu:
        cpu.set_hidden("tr", layout.TSS_SELECTOR, 0x83, 43, layout.TSS)
        stack = (0x7800).to_bytes(2, "little") + layout.DATA16.to_bytes(2, "little")
        cpu.load(layout.TSS + 2, stack)
        assert cpu.run_to_halt() == _HANDLER
        assert cpu.get("ss_selector", "rsp") == [layout.DATA16, 0x7800 - 20]


def test_a_16_bit_stack_segment_uses_sp_alone() -> None:
    with Processor(PROTECTED16, f"int {_VECTOR}") as cpu:
        cpu.set(rsp=0x5555_0000 | layout.STACK_TOPS[0])
        cpu.run_to_halt()
        assert cpu.reg("rsp") == 0x5555_0000 | layout.STACK_TOPS[0] - 12


def test_a_load_of_the_handlers_segments_sets_their_accessed_bits() -> None:
    with Processor(PROTECTED32, f"int {_VECTOR}", cpl=3) as cpu:
        cpu.put_descriptor(_FREE, segment(CODE_RX & ~1))
        cpu.put_descriptor(_FREE + 8, segment(DATA_RW & ~1, Size.BITS32 | Size.PAGES))
        cpu.load(layout.TSS + 8, (_FREE + 8).to_bytes(4, "little"))
        cpu.put_gate(_VECTOR, gate(System.INTERRUPT_GATE, _FREE, _HANDLER, dpl=3))
        cpu.run_to_halt()
        access = [cpu.memory[layout.GDT + _FREE + at] for at in (5, 13)]
        assert access == [0x9B, 0x93]
