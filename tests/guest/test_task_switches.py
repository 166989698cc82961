"""Hardware task switches by JMP, CALL, IRET, INT and task gates, with 32-bit and 16-bit TSSs.

SDM volume 3, "Task Switching", the table of exception conditions and of the busy bit, NT and the
link field.
"""

from struct import pack, unpack_from
from typing import Final

import pytest

from tests.guest import layout
from tests.guest.descriptors import System, gate, system
from tests.guest.modes import PROTECTED32, Cr0, Rflags
from tests.guest.processor import Processor
from tests.guest.task_state import TSS16_SIZE, TSS32_SIZE

_NEW_TSS: Final = 0xC800
_NEW: Final = layout.FREE_SELECTOR
_TASK_GATE: Final = layout.FREE_SELECTOR + 8
_VECTOR: Final = 0x40
_GP, _NP, _TS, _SS = 13, 11, 10, 12
_REGISTERS: Final = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
_BUSY: Final = 2
_NEW_FLAGS: Final = Rflags.FIXED | Rflags.CF | Rflags.OF
_DATA_SEGMENTS: Final = (layout.DATA32_RING3, layout.CODE32, layout.DATA32, layout.DATA32, 0, 0)
"""ES, CS, SS, DS, FS, GS of the new task."""


def _tss32(segments: tuple[int, ...] = _DATA_SEGMENTS, *, eip: int = layout.OTHER_CODE) -> bytes:
    stacks = pack("<7I", 0, layout.STACK_TOPS[0], layout.DATA32, 0, 0, 0, 0)
    registers = range(0x1111_1100, 0x1111_1108)
    return (
        stacks
        + pack("<3I", layout.PAGE_TABLES, eip, int(_NEW_FLAGS))
        + pack("<8I", *[0x7800 if number == 4 else reg for number, reg in enumerate(registers)])
        + pack("<6I", *segments)
        + pack("<IHH", layout.LDT_SELECTOR, 0, TSS32_SIZE)
    )


def _tss16() -> bytes:
    registers = [0x7800 if number == 4 else 0x2200 + number for number in range(8)]
    stacks = pack("<7H", 0, layout.STACK_TOPS[0], layout.DATA32, 0, 0, 0, 0)
    state = pack("<2H", layout.OTHER_CODE, int(_NEW_FLAGS)) + pack("<8H", *registers)
    return stacks + state + pack("<4HH", *_DATA_SEGMENTS[:4], layout.LDT_SELECTOR)


def _with_task(code: str, *, short: bool = False, cpl: int = 0) -> Processor:
    cpu = Processor(PROTECTED32, code, cpl=cpl)
    cpu.assemble("hlt; nop; iretd", at=layout.OTHER_CODE)
    kind, size = (System.TSS16, TSS16_SIZE) if short else (System.TSS, TSS32_SIZE)
    cpu.load(_NEW_TSS, _tss16() if short else _tss32())
    cpu.put_descriptor(_NEW, system(kind, _NEW_TSS, size - 1, dpl=3))
    cpu.put_descriptor(_TASK_GATE, gate(System.TASK_GATE, _NEW, 0, dpl=3))
    cpu.put_gate(_VECTOR, gate(System.TASK_GATE, _NEW, 0, dpl=3))
    cpu.put_descriptor(layout.TSS_SELECTOR, system(System.BUSY_TSS, layout.TSS, TSS32_SIZE - 1))
    values = {name: 0x5500 + number for number, name in enumerate(_REGISTERS)}
    cpu.set(**values | {"rsp": layout.STACK_TOPS[cpl], "rflags": Rflags.FIXED | Rflags.AF})
    return cpu


def _far(mnemonic: str, selector: int) -> str:
    opcode = {"jmp": 0xEA, "call": 0x9A}[mnemonic]
    return f".byte {opcode:#x}; .long 0x12345678; .word {selector:#x}; nop; hlt"


def _busy(cpu: Processor, selector: int) -> bool:
    return bool(cpu.memory[layout.GDT + selector + 5] & _BUSY)


def _link(cpu: Processor) -> int:
    return cpu.words(_NEW_TSS, 2, 1)[0]


_WAYS: Final = {
    "jmp tss": (_far("jmp", _NEW), 7, False),
    "jmp gate": (_far("jmp", _TASK_GATE), 7, False),
    "call tss": (_far("call", _NEW), 7, True),
    "call gate": (_far("call", _TASK_GATE), 7, True),
    "int": (f"int {_VECTOR}; nop; hlt", 2, True),
}


@pytest.mark.parametrize("short", [False, True], ids=["tss32", "tss16"])
@pytest.mark.parametrize("way", _WAYS)
def test_a_switch_saves_one_task_and_loads_the_other(way: str, short: bool) -> None:
    code, length, nested = _WAYS[way]
    with _with_task(code, short=short) as cpu:
        assert cpu.run_to_halt() == layout.OTHER_CODE
        base, wide = (0x2200, False) if short else (0x1111_1100, True)
        expected = [0x7800 if number == 4 else base + number for number in range(8)]
        mask = 0xFFFF_FFFF if wide else 0xFFFF
        assert [value & mask for value in cpu.get(*_REGISTERS)] == expected
        assert cpu.reg("rflags") == _NEW_FLAGS | (Rflags.NT if nested else 0)
        names = ("es", "cs", "ss", "ds")
        assert cpu.get(*(f"{name}_selector" for name in names)) == list(_DATA_SEGMENTS[:4])
        assert cpu.hidden("ldtr") == (layout.LDT_SELECTOR, 0x82, 0x7FF, layout.LDT)
        assert cpu.get("tr_selector", "tr_base") == [_NEW, _NEW_TSS]
        assert cpu.reg("cr0") & Cr0.TS
        assert (_busy(cpu, _NEW), _busy(cpu, layout.TSS_SELECTOR)) == (True, nested)
        assert _link(cpu) == (layout.TSS_SELECTOR if nested else 0)
        eip, flags, *registers = cpu.words(layout.TSS + 32, 4, 10)
        assert (eip, flags) == (layout.CODE + length, Rflags.FIXED | Rflags.AF)
        saved = [0x5500 + number for number in range(8)]
        assert registers == [*saved[:4], layout.STACK_TOPS[0], *saved[5:]]
        selectors = [word & 0xFFFF for word in cpu.words(layout.TSS + 72, 4, 6)]
        data = layout.DATA32
        assert selectors == [data, layout.CODE32, data, data, data, data]


@pytest.mark.parametrize("way", ["call tss", "call gate", "int"])
@pytest.mark.parametrize("short", [False, True], ids=["tss32", "tss16"])
def test_iret_with_nt_goes_back(way: str, short: bool) -> None:
    code, length, _ = _WAYS[way]
    with _with_task(code, short=short) as cpu:
        cpu.assemble("iretd", at=layout.OTHER_CODE)
        assert cpu.run_to_halt() == layout.CODE + length + 1
        values = [0x5500 + number for number in range(8)]
        assert cpu.get(*_REGISTERS) == [*values[:4], layout.STACK_TOPS[0], *values[5:]]
        assert cpu.reg("rflags") == Rflags.FIXED | Rflags.AF
        assert (_busy(cpu, _NEW), _busy(cpu, layout.TSS_SELECTOR)) == (False, True)
        assert cpu.reg("tr_selector") == layout.TSS_SELECTOR


def test_an_exception_through_a_task_gate_puts_its_error_code_on_the_new_stack() -> None:
    with _with_task("mov fs, ax") as cpu:
        cpu.put_gate(_GP, gate(System.TASK_GATE, _NEW, 0))
        cpu.set(rax=0x3F8)
        assert cpu.run_to_halt() == layout.OTHER_CODE
        assert cpu.reg("rsp") == 0x7800 - 4
        assert cpu.words(0x7800 - 4, 4, 1) == [0x3F8]
        assert unpack_from("<I", cpu.memory, layout.TSS + 32) == (layout.CODE,)


def test_a_task_may_run_in_ring_3() -> None:
    with _with_task(_far("jmp", _NEW)) as cpu:
        ring3 = layout.DATA32_RING3
        segments = (ring3, layout.CODE32_RING3, ring3, ring3, ring3, 0)
        cpu.load(_NEW_TSS, _tss32(segments))
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.cs, trap.rip) == ((_GP, 0), segments[1], layout.OTHER_CODE)
        assert (trap.rsp, trap.ss) == (0x7800, ring3)


@pytest.mark.parametrize(
    ("descriptor", "fault"),
    [
        (system(System.TSS, _NEW_TSS, TSS32_SIZE - 2), (_TS, _NEW)),
        (system(System.TSS16, _NEW_TSS, TSS16_SIZE - 2), (_TS, _NEW)),
        (system(System.BUSY_TSS, _NEW_TSS, TSS32_SIZE - 1), (_GP, _NEW)),
        (system(System.TSS, _NEW_TSS, TSS32_SIZE - 1, present=False), (_NP, _NEW)),
        (system(System.LDT, _NEW_TSS, TSS32_SIZE - 1), (_GP, _NEW)),
    ],
)
@pytest.mark.parametrize("way", ["jmp tss", "jmp gate", "call tss", "call gate"])
def test_a_bad_tss_is_refused_in_the_old_task(
    way: str, descriptor: bytes, fault: tuple[int, int]
) -> None:
    with _with_task(_WAYS[way][0]) as cpu:
        cpu.put_descriptor(_NEW, descriptor)
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == (fault, layout.CODE)
        assert cpu.reg("tr_selector") == layout.TSS_SELECTOR
        assert _busy(cpu, layout.TSS_SELECTOR)


_BAD_SEGMENTS: Final = {
    "null cs": (1, 0, (_TS, 0)),
    "data as cs": (1, layout.DATA32, (_TS, layout.DATA32)),
    "cs of another level": (1, layout.CODE32_RING3 & ~3, (_TS, layout.CODE32_RING3 & ~3)),
    "null ss": (2, 0, (_TS, 0)),
    "code as ss": (2, layout.CODE32, (_TS, layout.CODE32)),
    "ss of another level": (2, layout.DATA32_RING3, (_TS, layout.DATA32_RING3 & ~3)),
    "system descriptor as ds": (3, layout.LDT_SELECTOR, (_TS, layout.LDT_SELECTOR)),
    "ds beyond the gdt": (3, 0x7F8, (_TS, 0x7F8)),
}


@pytest.mark.parametrize("name", _BAD_SEGMENTS)
def test_a_bad_segment_in_the_tss_is_an_invalid_tss_of_the_new_task(name: str) -> None:
    number, selector, fault = _BAD_SEGMENTS[name]
    segments = [*_DATA_SEGMENTS]
    segments[number] = selector
    with _with_task(_far("jmp", _NEW)) as cpu:
        cpu.load(_NEW_TSS, _tss32(tuple(segments)))
        # Its handler needs good segments, so it is a task too.
        cpu.load(0xC900, _tss32(eip=layout.HANDLERS + _TS))
        cpu.put_descriptor(_NEW + 0x10, system(System.TSS, 0xC900, TSS32_SIZE - 1))
        cpu.put_gate(_TS, gate(System.TASK_GATE, _NEW + 0x10, 0))
        assert cpu.run_to_halt() == layout.HANDLERS + _TS
        assert cpu.words(cpu.reg("rsp"), 4, 1) == [fault[1]]
        assert unpack_from("<I", cpu.memory, _NEW_TSS + 32) == (layout.OTHER_CODE,)
        assert cpu.words(0xC900, 2, 1) == [_NEW]


@pytest.mark.parametrize(("dpl", "refused"), [(2, True), (3, False)])
def test_a_task_gate_wants_its_dpl(dpl: int, refused: bool) -> None:
    with _with_task(_far("call", _TASK_GATE), cpl=3) as cpu:
        cpu.put_descriptor(_TASK_GATE, gate(System.TASK_GATE, _NEW, 0, dpl=dpl))
        if refused:
            assert cpu.run_to_trap().fault == (_GP, _TASK_GATE)
        else:
            assert cpu.run_to_halt() == layout.OTHER_CODE


def test_the_trap_bit_of_a_tss_is_a_debug_exception_in_the_new_task() -> None:
    with _with_task(_far("jmp", _NEW)) as cpu:
        cpu.load(_NEW_TSS + 100, b"\x01")
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip) == (1, layout.OTHER_CODE)
        assert cpu.reg("dr6") == 0xFFFF_8FF0


def test_a_switch_clears_the_local_enables_of_dr7() -> None:
    with _with_task(_far("jmp", _NEW)) as cpu:
        cpu.set(dr7=0x400 | 0xFF | 1 << 8)
        cpu.run_to_halt()
        assert cpu.reg("dr7") & 0xFF == 0xAA
