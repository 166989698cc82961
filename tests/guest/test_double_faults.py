"""Every exception while another one is delivered: serial, #DF, or shutdown.

SDM volume 3, "Interrupt 8—Double Fault Exception", the table of conditions. The first event is
raised by an instruction or injected; the second one by what its gate names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from microv import abi_gen as mv
from microv.ops import vs
from tests.guest import layout
from tests.guest.descriptors import CODE_RX, DATA_RW, System, gate, segment
from tests.guest.modes import LONG64, Cr0, Rflags
from tests.guest.processor import Processor

_UNMAPPED: Final = layout.FAR_DATA
_CODE_NP: Final = layout.FREE_SELECTOR
_DATA_NP: Final = layout.FREE_SELECTOR + 8
_IST_NON_CANONICAL: Final = 3
_IST_UNMAPPED: Final = 4
_IST_BEYOND: Final = 7
_INTERRUPT: Final = 0x50
_VIA_BAD_TSS: Final = 0x51


@dataclass(frozen=True)
class First:
    """An event: its vector, what raises it, and whether EXT is set when its delivery fails."""

    vector: int
    code: str = "nop"
    prepare: Callable[[Processor], None] = lambda _: None
    ext: int = 1
    cpl: int = 0


def _inject_nmi(cpu: Processor) -> None:
    vs.inject_exception(cpu.vsid, 2)


def _queue(cpu: Processor) -> None:
    cpu.set(rflags=Rflags.FIXED | Rflags.IF)
    vs.queue_interrupt(cpu.vsid, _INTERRUPT)


def _task_switched(cpu: Processor) -> None:
    cpu.set(cr0=cpu.mode.cr0 | Cr0.TS)


def _alignment(cpu: Processor) -> None:
    cpu.set(cr0=cpu.mode.cr0 | Cr0.AM, rflags=Rflags.FIXED | Rflags.AC, rbx=layout.DATA + 1)


def _point_to_unmapped(cpu: Processor) -> None:
    cpu.set(rbx=_UNMAPPED)


def _selector_not_present(cpu: Processor) -> None:
    cpu.set(rax=_DATA_NP)


_BENIGN: Final = {
    "icebp": First(1, ".byte 0xf1"),
    "nmi": First(2, prepare=_inject_nmi),
    "int3": First(3, "int3", ext=0),
    "ud": First(6, "ud2"),
    "nm": First(7, "fnop", _task_switched),
    "ac": First(17, "mov eax, [rbx]", _alignment, cpl=3),
    "interrupt": First(_INTERRUPT, prepare=_queue),
    "int n": First(0x52, "int 0x52", ext=0),
}
_CONTRIBUTORY: Final = {
    "de": First(0, "div ecx"),
    "ts": First(10, f"int {_VIA_BAD_TSS}"),
    "np": First(11, "mov fs, ax", _selector_not_present),
    "ss": First(12, "mov ss, ax", _selector_not_present),
    "gp": First(13, "mov cr0, rcx"),
}
_PAGE_FAULT: Final = {"pf": First(14, "mov eax, [rbx]", _point_to_unmapped)}
_FIRST: Final = _BENIGN | _CONTRIBUTORY | _PAGE_FAULT


def _gate_to(selector: int, vector: int, ist: int = 0, **fields: bool) -> bytes:
    handler = layout.HANDLERS + vector
    return gate(System.INTERRUPT_GATE, selector, handler, dpl=3, low_byte4=ist, wide=True, **fields)


def _no_gate(_vector: int) -> bytes:
    return bytes(16)


def _gate_not_present(vector: int) -> bytes:
    return _gate_to(layout.CODE64, vector, present=False)


def _stack_beyond_tss(vector: int) -> bytes:
    return _gate_to(layout.CODE64, vector, _IST_BEYOND)


def _stack_non_canonical(vector: int) -> bytes:
    return _gate_to(layout.CODE64, vector, _IST_NON_CANONICAL)


def _stack_unmapped(vector: int) -> bytes:
    return _gate_to(layout.CODE64, vector, _IST_UNMAPPED)


def _code_not_present(vector: int) -> bytes:
    return _gate_to(_CODE_NP, vector)


@dataclass(frozen=True)
class Second:
    """What a gate for the first event's vector raises; None for the code: not compared."""

    vector: int
    gate: Callable[[int], bytes]
    code: Callable[[First], int | None]


_SECOND: Final = {
    "gp": Second(13, _no_gate, lambda first: first.vector << 3 | 2 | first.ext),
    "np": Second(11, _gate_not_present, lambda first: first.vector << 3 | 2 | first.ext),
    "np segment": Second(11, _code_not_present, lambda first: _CODE_NP | first.ext),
    "ts": Second(10, _stack_beyond_tss, lambda first: layout.TSS_SELECTOR | first.ext),
    # Manuals disagree about EXT where no selector is named.
    "ss": Second(12, _stack_non_canonical, lambda _: None),
    "pf": Second(14, _stack_unmapped, lambda _: 2),
}


def _processor(first: First) -> Processor:
    cpu = Processor(LONG64, f"{first.code}; hlt", cpl=first.cpl)
    cpu.tables.set_page(_UNMAPPED, 0)
    cpu.refresh_tables()
    cpu.put_descriptor(_CODE_NP, segment(CODE_RX, 0xA, present=False))
    cpu.put_descriptor(_DATA_NP, segment(DATA_RW, present=False))
    for index, top in ((_IST_NON_CANONICAL, 1 << 62), (_IST_UNMAPPED, _UNMAPPED + 0x100)):
        cpu.load(layout.TSS + 0x24 + 8 * (index - 1), top.to_bytes(8, "little"))
    cpu.put_gate(_VIA_BAD_TSS, _stack_beyond_tss(_VIA_BAD_TSS))
    cpu.set(tr_limit=0x24 + 8 * (_IST_BEYOND - 1))
    first.prepare(cpu)
    return cpu


def _expected_vector(first: str, second: Second) -> int:
    contributory = second.vector in (10, 11, 12, 13)
    double = contributory if first in _CONTRIBUTORY else first in _PAGE_FAULT
    return 8 if double else second.vector


@pytest.mark.parametrize("first", _FIRST)
def test_the_first_event_alone_is_delivered(first: str) -> None:
    with _processor(_FIRST[first]) as cpu:
        assert cpu.run_to_trap().vector == _FIRST[first].vector


@pytest.mark.parametrize("second", _SECOND)
@pytest.mark.parametrize("first", _FIRST)
def test_a_fault_during_delivery(first: str, second: str) -> None:
    event, fault = _FIRST[first], _SECOND[second]
    with _processor(event) as cpu:
        cpu.put_gate(event.vector, fault.gate(event.vector))
        trap = cpu.run_to_trap()
        vector = _expected_vector(first, fault)
        code = 0 if vector == 8 else fault.code(event)
        seen = trap.error_code if code is not None else None
        assert (trap.vector, seen, trap.rip) == (vector, code, layout.CODE)


@pytest.mark.parametrize("third", _SECOND)
@pytest.mark.parametrize("first", ["de", "gp", "pf"])
def test_a_fault_while_a_double_fault_is_delivered_shuts_down(first: str, third: str) -> None:
    with _processor(_FIRST[first]) as cpu:
        cpu.put_gate(_FIRST[first].vector, _no_gate(_FIRST[first].vector))
        cpu.put_gate(8, _SECOND[third].gate(8))
        assert cpu.run().reason == mv.mv_exit_reason_t_shutdown
        assert cpu.reg("rip") == layout.CODE


def test_page_faults_in_a_row_are_serial_from_a_contributory_fault_and_then_double() -> None:
    """#GP, whose handler's stack is not there, and neither is that of #PF: #PF, then #DF."""
    with _processor(_CONTRIBUTORY["gp"]) as cpu:
        cpu.put_gate(13, _stack_unmapped(13))
        cpu.put_gate(14, _stack_unmapped(14))
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((8, 0), layout.CODE)
        assert cpu.reg("cr2") == _UNMAPPED + 0x100 - 8


def test_benign_faults_never_make_a_double_fault() -> None:
    """#UD, then #GP for its gate, then #NP for the gate of #GP: two contributory ones, #DF."""
    with _processor(_BENIGN["ud"]) as cpu:
        cpu.put_gate(6, _no_gate(6))
        assert cpu.run_to_trap().fault == (13, 6 << 3 | 3)
    with _processor(_BENIGN["ud"]) as cpu:
        cpu.put_gate(6, _no_gate(6))
        cpu.put_gate(13, _gate_not_present(13))
        assert cpu.run_to_trap().fault == (8, 0)
