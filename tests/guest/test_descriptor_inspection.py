"""LAR, LSL, VERR and VERW against a model, for every type of descriptor, DPL, RPL and CPL.

SDM volume 2, the tables of valid types of LAR and LSL; volume 3, "Pointer Validation".
"""

from dataclasses import dataclass
from itertools import product
from typing import Final

import pytest

from tests.guest import layout
from tests.guest.descriptors import raw
from tests.guest.modes import COMPAT32, LONG64, PROTECTED32, Mode, Rflags
from tests.guest.processor import Processor
from tests.guest.segment_model import Descriptor

# EAX: the selector. Each instruction leaves its ZF in a register that the next ones keep.
_CODE: Final = """
    mov esi, 0x5a5a5a5a
    mov edi, 0x5a5a5a5a
    lar esi, eax
    setz bl
    lsl edi, eax
    setz bh
    verr ax
    setz cl
    verw ax
    setz ch
    out 0x11, al
"""
_UNTOUCHED: Final = 0x5A5A_5A5A
_LAR_SYSTEM: Final = {False: {1, 2, 3, 4, 5, 9, 11, 12}, True: {2, 9, 11, 12}}
"""By long mode: the system types that LAR shows."""
_LSL_SYSTEM: Final = {False: {1, 2, 3, 9, 11}, True: {2, 9, 11}}
_SELECTOR: Final = layout.FREE_SELECTOR


@dataclass(frozen=True)
class Answers:
    """Rights and limit, None where ZF is clear; whether it can be read, written."""

    rights: int | None
    limit: int | None
    readable: bool
    writable: bool


def _model(descriptor: Descriptor, *, rpl: int, cpl: int, long: bool) -> Answers:
    visible = descriptor.conforming or max(rpl, cpl) <= descriptor.dpl
    if not visible:
        return Answers(None, None, False, False)
    system, kind = descriptor.is_system, descriptor.kind
    return Answers(
        descriptor.raw >> 32 & 0xF0_FF00 if not system or kind in _LAR_SYSTEM[long] else None,
        descriptor.limit if not system or kind in _LSL_SYSTEM[long] else None,
        descriptor.readable,
        descriptor.writable,
    )


def _ask(cpu: Processor, selector: int) -> Answers:
    cpu.set(rip=layout.CODE, rax=selector, rbx=0, rcx=0)
    cpu.run_to_out()
    rsi, rdi, rbx, rcx = cpu.get("rsi", "rdi", "rbx", "rcx")
    # LAR leaves the four bits of the limit undefined.
    shown = (rsi & ~0xF_0000 if rbx & 1 else None, rdi if rbx >> 8 else None)
    hidden = [value for value, zero in ((rsi, rbx & 1), (rdi, rbx >> 8)) if not zero]
    assert all(value == _UNTOUCHED for value in hidden)
    return Answers(*shown, bool(rcx & 1), bool(rcx >> 8))


@pytest.mark.parametrize("cpl", [0, 1, 2, 3])
@pytest.mark.parametrize("mode", [PROTECTED32, COMPAT32, LONG64], ids=str)
def test_every_descriptor_is_shown_to_whom_it_may_be(mode: Mode, cpl: int) -> None:
    with Processor(mode, _CODE, cpl=cpl) as cpu:
        cpu.set(rflags=Rflags.FIXED | Rflags.IOPL3)
        for kind, dpl, present, rpl in product(range(32), range(4), (0, 0x80), range(4)):
            size = (kind * 5 + dpl + rpl) & 15
            image = raw(0x12345678, 0x9_ABCD, kind | dpl << 5 | present, size)
            cpu.put_descriptor(_SELECTOR, image)
            descriptor = Descriptor(int.from_bytes(image, "little"))
            expected = _model(descriptor, rpl=rpl, cpl=cpl, long=mode.long)
            assert (image, rpl, _ask(cpu, _SELECTOR | rpl)) == (image, rpl, expected)


_NOTHING: Final = Answers(None, None, False, False)


@pytest.mark.parametrize("selector", [0, 1, 2, 3, 0x400, 0x407, 0xFFFF, 0x7FF | 4])
def test_selectors_without_a_descriptor_show_nothing(selector: int) -> None:
    with Processor(PROTECTED32, _CODE) as cpu:
        cpu.set(ldtr_limit=0x3FF)
        assert _ask(cpu, selector) == _NOTHING


def test_the_limit_of_the_table_holds_to_the_last_byte() -> None:
    with Processor(PROTECTED32, _CODE) as cpu:
        cpu.set(gdtr_limit=layout.DATA32 + 7)
        assert _ask(cpu, layout.DATA32).limit == 0xFFFF_FFFF
        cpu.set(gdtr_limit=layout.DATA32 + 6)
        assert _ask(cpu, layout.DATA32) == _NOTHING


def test_a_16_bit_lar_writes_16_bits() -> None:
    with Processor(PROTECTED32, "lar si, ax; lsl di, ax; out 0x11, al") as cpu:
        cpu.set(rax=layout.DATA32, rsi=0x1111_1111, rdi=0x2222_2222)
        cpu.run_to_out()
        assert cpu.get("rsi", "rdi") == [0x1111_9300, 0x2222_FFFF]


@pytest.mark.parametrize(
    ("selector", "rpl", "after", "zero"),
    [
        (0x10, 3, 0x13, True),
        (0x13, 0, 0x13, False),
        (0x12, 2, 0x12, False),
        (0x11, 2, 0x12, True),
    ],
)
def test_arpl_raises_the_rpl(selector: int, rpl: int, after: int, zero: bool) -> None:
    with Processor(PROTECTED32, "arpl ax, bx; hlt") as cpu:
        cpu.set(rax=selector, rbx=rpl)
        cpu.run_to_halt()
        assert cpu.reg("rax") == after
        assert bool(cpu.reg("rflags") & Rflags.ZF) == zero
