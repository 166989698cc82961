"""Random segment loads against `segment_model`: the loaded hidden part, or the exact fault.

Each case puts random descriptors into GDT and LDT and runs one instruction. Behind it, and all
over the memory that far transfers can reach, is an OUT: it leaves the guest with its registers as
the instruction left them (IOPL is 3).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from struct import pack
from typing import Final

import pytest

from microv.exits import IoDetails
from tests.guest import layout
from tests.guest.modes import COMPAT32, LONG64, PROTECTED32, Mode, Rflags
from tests.guest.processor import Processor
from tests.guest.segment_model import (
    FaultError,
    Loaded,
    Machine,
    NotModelledError,
    Tables,
    dropped_by_return,
)

CASES: Final = 700
_SEED: Final = 20261121
_OUT: Final = b"\xe6\x11"
_FLAGS: Final = Rflags.FIXED | Rflags.IOPL3

# The descriptors that change: pairs, since a gate of long mode has 16 bytes.
_GDT_SLOTS: Final = range(layout.FREE_SELECTOR >> 3, layout.GDT_ENTRIES)
_LDT_SLOTS: Final = range(8)
_FIRST: Final = layout.FREE_SELECTOR

# What far transfers can reach, through 16-bit gates too.
_BASES: Final = (0, 0x1_0000, 0x2_0000)
_TARGETS: Final = (0x4_E000, 0x4_E010, 0x4_F000, 0x4_FFFE)
_REACHED: Final = (
    range(0xE000, 0x1_0000),
    range(0x1_E000, 0x2_0000),
    range(0x2_E000, 0x3_0000),
    range(_TARGETS[0], 0x7_0000),
)
_LIMITS: Final = (0xF_FFFF, 0xF_FFFF, 0x4_EFFF, 0x4_F001, 0x4F, 0x4_E011, 0xE00F)

_STACK: Final = layout.STACK_TOPS[2]
_OUTER_STACK: Final = layout.STACK_TOPS[3]

Outcome = tuple[object, ...]


@dataclass(frozen=True)
class Case:
    """Descriptors by index, limits, and the operands of the instruction."""

    gdt: dict[int, int]
    ldt: dict[int, int]
    gdt_limit: int
    ldt_limit: int | None
    selector: int
    stack: int
    offset: int

    def machine(self, cpu: Processor) -> Machine:
        """The model's view of it."""
        fixed = {
            index: cpu.qword(layout.GDT + 8 * index) for index in range(layout.FREE_SELECTOR >> 3)
        }
        tables = Tables(fixed | self.gdt, self.gdt_limit, self.ldt, self.ldt_limit)
        return Machine(tables, cpu.cpl, cpu.mode.long, cpu.mode.bits == 64)


def _random_descriptor(rng: random.Random, likely_dpl: int, gate_target: int) -> int:
    base, limit = rng.choice(_BASES), rng.choice(_LIMITS)
    access = rng.getrandbits(4) | rng.choice((likely_dpl, rng.randrange(4))) << 5
    access |= 0x80 * (rng.random() < 0.85) | 0x10 * (rng.random() < 0.75)
    flags = rng.choice((0, 2, 4, 6, 8, 0xA, 0xC, 1))
    if access & 0x10:
        low = limit & 0xFFFF | base << 16
        high = base >> 16 & 0xFF | access << 8 | limit & 0xF_0000 | flags << 20
        return low | high << 32
    offset = rng.choice(_TARGETS)
    if rng.random() < 0.7:
        access = access & 0xF0 | rng.choice((4, 12, 12))
    low = offset & 0xFFFF | gate_target << 16
    high = rng.randrange(4) | access << 8 | offset & 0xFFFF_0000
    return low | high << 32


def _random_selector(rng: random.Random, cpl: int) -> int:
    rpl = rng.choice((cpl, rng.randrange(4)))
    kind = rng.random()
    if kind < 0.06:
        return rng.randrange(4)
    if kind < 0.10:
        return rng.getrandbits(16)
    if kind < 0.16:
        return rng.choice((layout.CODE32, layout.CODE64, layout.DATA32_RING3, layout.CODE16)) | rpl
    if kind < 0.40:
        return rng.choice(_LDT_SLOTS) << 3 | 4 | rpl
    return rng.choice(_GDT_SLOTS) << 3 | rpl


def _access(kind: int, dpl: int) -> int:
    return 0x90 | kind | dpl << 5


def _code_access(rng: random.Random, level: int) -> int:
    """Code that may run at a level: of that DPL, or conforming and of any lower one."""
    if rng.random() < 0.7:
        return _access(rng.choice((8, 9, 10, 11)), level)
    return _access(rng.choice((12, 13, 14, 15)), rng.randrange(level + 1))


def _legal_gate(rng: random.Random, name: str, mode: Mode, cpl: int) -> tuple[int, int]:
    """A call gate to code of `layout`, and an RPL."""
    level = cpl if name == "jmp far" else rng.randrange(cpl + 1)
    code = LONG64.code if mode.long else PROTECTED32.code
    rpl = rng.randrange(4)
    kind = 12 if mode.long else rng.choice((4, 12))
    access = 0x80 | kind | rng.randrange(max(cpl, rpl), 4) << 5
    offset = rng.choice(_TARGETS)
    low = offset & 0xFFFF | code[level] << 16
    return low | (rng.randrange(4) | access << 8 | offset & 0xFFFF_0000) << 32, rpl


def _legal_segment(rng: random.Random, name: str, cpl: int) -> tuple[int, int]:
    """A descriptor that the instruction may load, and an RPL."""
    level = rpl = cpl
    match name:
        case "mov fs":
            level = rng.randrange(cpl, 4)
            rpl = rng.randrange(level + 1)
            access = _access(rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 14, 15)), level)
        case "mov ss":
            access = _access(rng.choice((2, 3, 6, 7)), cpl)
        case "retf" | "iret":
            level = rpl = rng.randrange(cpl, 4)
            access = _code_access(rng, level)
        case _:
            rpl = rng.randrange(cpl + 1)
            access = _code_access(rng, cpl)
    base, limit = rng.choice(_BASES), rng.choice(_LIMITS)
    flags = rng.choice((0, 2, 4, 8, 0xA, 0xC))
    high = base >> 16 & 0xFF | access << 8 | limit & 0xF_0000 | flags << 20
    return limit & 0xFFFF | base << 16 | high << 32, rpl


def _nearly_legal(rng: random.Random, name: str, mode: Mode, cpl: int) -> tuple[int, int]:
    """Legal, but for a bit of type, S, DPL, P, L, D or G in some cases.

    A gate keeps its S: as a segment its offset would be a limit in the middle of an OUT.
    """
    if name in ("jmp far", "call far") and rng.random() < 0.5:
        raw, rpl = _legal_gate(rng, name, mode, cpl)
        flips = [40, 41, 42, 43, 45, 46, 47]
    else:
        raw, rpl = _legal_segment(rng, name, cpl)
        flips = [40, 41, 42, 43, 44, 45, 46, 47, 53, 54, 55]
    if rng.random() < 0.4:
        raw ^= 1 << rng.choice(flips)
    return raw, rpl


def _nearly_legal_case(rng: random.Random, name: str, mode: Mode, cpl: int) -> Case:
    case = _random_case(rng, mode, cpl)
    raw, rpl = _nearly_legal(rng, name, mode, cpl)
    in_ldt = rng.random() < 0.3
    index = rng.choice(range(0, 8, 2)) if in_ldt else rng.choice(_GDT_SLOTS[:-2:2])
    upper = rng.randrange(32) << 40 if rng.random() < 0.1 else 0
    pair = {index: raw, index + 1: upper}
    selector = index << 3 | (4 if in_ldt else 0) | rpl
    stack = (layout.DATA32, layout.DATA32_RING1, layout.DATA32_RING2, layout.DATA32_RING3)[rpl]
    return replace(
        case,
        gdt=case.gdt | ({} if in_ldt else pair),
        ldt=case.ldt | (pair if in_ldt else {}),
        ldt_limit=0x3F if in_ldt else case.ldt_limit,
        selector=selector,
        stack=stack if rng.random() < 0.8 else case.stack,
    )


def _random_case(rng: random.Random, mode: Mode, cpl: int) -> Case:
    def descriptor() -> int:
        return _random_descriptor(rng, rng.choice((cpl, 3)), _random_selector(rng, cpl))

    gdt = {index: descriptor() for index in rng.sample(_GDT_SLOTS, 4)}
    ldt = {index: descriptor() for index in rng.sample(_LDT_SLOTS, 3)}
    if mode.long:
        for table in (gdt, ldt):
            for index in list(table):
                if rng.random() < 0.8:
                    # The upper half of a gate; its type is mostly zero.
                    bad = rng.random() < 0.1
                    table[index + 1] = rng.randrange(32) << 40 if bad else 0
    # Most of the time one of the slots just filled.
    selector = _random_selector(rng, cpl)
    if rng.random() < 0.8:
        selector = rng.choice(list(gdt)) << 3 | selector & 3
    stack = _random_selector(rng, cpl)
    if rng.random() < 0.7:
        level = selector & 3
        stack = rng.choice(
            (layout.DATA32, layout.DATA32_RING1, layout.DATA32_RING2, layout.DATA32_RING3)
        )
        stack = stack if rng.random() < 0.3 else [0x10, 0x79, 0x8A, 0x3B][level]
    gdt_limit = 8 * layout.GDT_ENTRIES - 1
    if rng.random() < 0.1:
        gdt_limit = _FIRST + rng.randrange(0x80)
    ldt_limit = rng.choice((None, 0x3F, 0x3F, 0x3F, 0x2E, 0x100))
    return Case(gdt, ldt, gdt_limit, ldt_limit, selector, stack, rng.choice(_TARGETS))


@dataclass(frozen=True)
class Load:
    """An instruction: its text, where RSP is before it, and what the model says it does."""

    text: str
    model: Callable[[Processor, Case], Outcome]


def _segment(cpu: Processor, name: str) -> Loaded:
    selector, attrib, limit, base = cpu.hidden(name)
    return Loaded(selector, None if attrib & 0x1_0000 else (attrib, limit, base))


def _words(cpu: Processor, gpa: int, size: int, count: int) -> tuple[int, ...]:
    return tuple(cpu.words(gpa, size, count))


def _mov_data(cpu: Processor, case: Case) -> Outcome:
    return (case.machine(cpu).load_data(case.selector),)


def _mov_stack(cpu: Processor, case: Case) -> Outcome:
    return (case.machine(cpu).load_stack(case.selector),)


def _jump(cpu: Processor, case: Case) -> Outcome:
    return case.machine(cpu).far_jump(case.selector, case.offset)


def _call(cpu: Processor, case: Case) -> Outcome:
    machine = case.machine(cpu)
    cs, rip, size, level = machine.far_call(case.selector, case.offset)
    back = (cpu.reg("rip") + 2, cpu.mode.code[cpu.cpl])
    if level == cpu.cpl:
        return cs, rip, _STACK - 2 * size, tuple(back)
    parameters: tuple[int, ...] = ()
    if not cpu.mode.long:
        gate = machine.tables.get(case.selector)
        parameters = _words(cpu, _STACK, size, gate.raw >> 32 & 31)
    mask = (1 << 8 * size) - 1
    frame = (*back, *parameters, _STACK & mask, cpu.mode.data[cpu.cpl])
    return cs, rip, layout.STACK_TOPS[level] - size * len(frame), frame


def _return(cpu: Processor, case: Case, *, always_pops_stack: bool, size: int) -> Outcome:
    machine = case.machine(cpu)
    cs, ss = machine.far_return(
        case.selector, case.offset, case.stack, always_pops_stack=always_pops_stack
    )
    level = case.selector & 3
    data = [_segment(cpu, name) for name in ("ds", "es", "fs", "gs")]
    if level > cpu.cpl:
        data = [Loaded(0, None) if dropped_by_return(one, level) else one for one in data]
    rsp = _OUTER_STACK if ss else _STACK + size
    return cs, case.offset, rsp, ss or _segment(cpu, "ss"), data


def _retf(cpu: Processor, case: Case) -> Outcome:
    return _return(cpu, case, always_pops_stack=False, size=8)


def _iret(cpu: Processor, case: Case) -> Outcome:
    always = cpu.mode.bits == 64
    return _return(cpu, case, always_pops_stack=always, size=12)


def _seen_data(cpu: Processor, _case: Case) -> Outcome:
    return (_segment(cpu, "fs"),)


def _seen_stack(cpu: Processor, _case: Case) -> Outcome:
    return (_segment(cpu, "ss"),)


def _seen_jump(cpu: Processor, _case: Case) -> Outcome:
    return _segment(cpu, "cs"), cpu.reg("rip")


def _seen_call(cpu: Processor, case: Case) -> Outcome:
    rsp = cpu.reg("rsp")
    level = cpu.reg("ss_attrib") >> 5 & 3
    top = _STACK if level == cpu.cpl else layout.STACK_TOPS[level]
    size = 8 if top != _STACK and cpu.mode.long else 4
    size = _push_size(cpu, case, size)
    frame = _words(cpu, rsp, size, (top - rsp) // size)
    return _segment(cpu, "cs"), cpu.reg("rip"), rsp, frame


def _push_size(cpu: Processor, case: Case, otherwise: int) -> int:
    descriptor = case.machine(cpu).tables.find(case.selector)
    if descriptor is None or not descriptor.is_system:
        return otherwise
    return 8 if cpu.mode.long else {4: 2}.get(descriptor.kind, 4)


def _seen_return(cpu: Processor, _case: Case) -> Outcome:
    data = [_segment(cpu, name) for name in ("ds", "es", "fs", "gs")]
    return _segment(cpu, "cs"), cpu.reg("rip"), cpu.reg("rsp"), _segment(cpu, "ss"), data


_SEEN: Final[dict[str, Callable[[Processor, Case], Outcome]]] = {
    "mov fs": _seen_data,
    "mov ss": _seen_stack,
    "jmp far": _seen_jump,
    "call far": _seen_call,
    "retf": _seen_return,
    "iret": _seen_return,
}
_LOADS: Final = {
    "mov fs": Load("mov fs, eax", _mov_data),
    "mov ss": Load("mov ss, eax", _mov_stack),
    "jmp far": Load("jmp fword ptr [rbx]", _jump),
    "call far": Load("call fword ptr [rbx]", _call),
    "retf": Load("retf", _retf),
    "iret": Load("iretd", _iret),
}


def _text(name: str, mode: Mode) -> str:
    text = _LOADS[name].text
    if mode.bits == 64:
        return text.replace("iretd", "iretq")
    return text.replace("rbx", "ebx")


class Bench:
    """A processor at one privilege level that runs case after case of one instruction."""

    def __init__(self, name: str, mode: Mode, cpl: int) -> None:
        self.name = name
        self.load = _LOADS[name]
        self.cpu = Processor(mode, f"{_text(name, mode)}; out 0x11, al", cpl=cpl)
        for reached in _REACHED:
            self.cpu.load(reached.start, _OUT * (len(reached) // len(_OUT)))

    def prepare(self, case: Case) -> None:
        """Puts tables, operands and registers in place."""
        cpu = self.cpu
        cpu.load(layout.GDT + _FIRST, bytes(8 * len(_GDT_SLOTS)))
        cpu.load(layout.LDT, bytes(0x48))
        for base, table in ((layout.GDT, case.gdt), (layout.LDT, case.ldt)):
            for index, raw in table.items():
                if base != layout.GDT or index < layout.GDT_ENTRIES:
                    cpu.load(base + 8 * index, raw.to_bytes(8, "little"))
        cpu.start()
        cpu.set(
            rax=case.selector,
            rbx=layout.DATA,
            rsp=_STACK,
            rflags=_FLAGS,
            gdtr_limit=case.gdt_limit,
            ldtr_limit=case.ldt_limit or 0,
            ldtr_attrib=0x82 if case.ldt_limit is not None else 0x1_0082,
        )
        cpu.set_segment("fs", layout.DATA32_RING3)
        cpu.set_segment("gs", layout.CODE32_CONFORMING)
        cpu.set_hidden("es", 0, 0x1_0000, 0, 0)
        cpu.load(layout.DATA, pack("<IH", case.offset, case.selector))
        cpu.load(_STACK, self._stack(case))

    def _stack(self, case: Case) -> bytes:
        if self.name == "retf":
            return pack("<IIII", case.offset, case.selector, _OUTER_STACK, case.stack)
        code = "<QQQQQ" if self.cpu.mode.bits == 64 else "<IIIII"
        return pack(code, case.offset, case.selector, _FLAGS, _OUTER_STACK, case.stack)

    def expected(self, case: Case) -> Outcome:
        """By the model."""
        try:
            return self.load.model(self.cpu, case)
        except FaultError as fault:
            return fault.vector, fault.error_code, layout.CODE, self.cpu.mode.code[self.cpu.cpl]

    def seen(self, case: Case) -> Outcome:
        """By the engine."""
        exit_ = self.cpu.run()
        if isinstance(exit_.details, IoDetails):
            return _SEEN[self.name](self.cpu, case)
        vector = self.cpu.reg("rip") - 1 - layout.HANDLERS
        trap = self.cpu.trap(vector, error_code=True)
        return trap.vector, trap.error_code, trap.rip, trap.cs


@pytest.mark.parametrize("name", _LOADS)
@pytest.mark.parametrize("cpl", [0, 1, 2, 3])
@pytest.mark.parametrize("mode", [PROTECTED32, COMPAT32, LONG64], ids=str)
def test_loads_are_those_of_the_model(mode: Mode, cpl: int, name: str) -> None:
    rng = random.Random(f"{_SEED} {mode} {cpl} {name}")
    bench = Bench(name, mode, cpl)
    done = 0
    with bench.cpu:
        while done < CASES:
            nearly_legal = rng.random() < 0.7
            if nearly_legal:
                case = _nearly_legal_case(rng, name, mode, cpl)
            else:
                case = _random_case(rng, mode, cpl)
            bench.prepare(case)
            try:
                expected = bench.expected(case)
            except NotModelledError:
                continue
            assert (bench.seen(case), case) == (expected, case)
            done += 1
