"""What loads of segment registers do, written down from the manual and from nothing else.

SDM volume 2, the operation sections of MOV, JMP, CALL, RET and IRET; volume 3, "Privilege Level
Checking When Accessing Data Segments" to "Returning from a Called Procedure". Task switches are
not modelled, nor what a TSS with bad stacks does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

GP: Final = 13
NP: Final = 11
SS: Final = 12
CALL_GATES: Final = {4: 2, 12: 4}
"""Type of a call gate outside long mode: bytes of what it pushes."""
TASK_TYPES: Final = {1, 5, 9}


class FaultError(Exception):
    """The load raises an exception with an error code."""

    def __init__(self, vector: int, error_code: int) -> None:
        super().__init__(vector, error_code)
        self.vector = vector
        self.error_code = error_code


class NotModelledError(Exception):
    """A task switch, or two faults whose order the manual leaves open."""


def refuse(vector: int, selector: int) -> FaultError:
    """The exception that names a selector: its two RPL bits are cleared."""
    return FaultError(vector, selector & 0xFFFC)


@dataclass(frozen=True)
class Descriptor:
    """Eight bytes of a descriptor table."""

    raw: int

    @property
    def kind(self) -> int:
        """Type field."""
        return self.raw >> 40 & 15

    @property
    def is_system(self) -> bool:
        """S = 0."""
        return not self.raw >> 44 & 1

    @property
    def dpl(self) -> int:
        """DPL."""
        return self.raw >> 45 & 3

    @property
    def present(self) -> bool:
        """P."""
        return bool(self.raw >> 47 & 1)

    @property
    def long(self) -> bool:
        """L."""
        return bool(self.raw >> 53 & 1)

    @property
    def big(self) -> bool:
        """D/B."""
        return bool(self.raw >> 54 & 1)

    @property
    def is_code(self) -> bool:
        """A code segment."""
        return not self.is_system and self.kind >= 8

    @property
    def conforming(self) -> bool:
        """A conforming code segment."""
        return self.is_code and bool(self.kind & 4)

    @property
    def writable(self) -> bool:
        """A writable data segment."""
        return not self.is_system and not self.is_code and bool(self.kind & 2)

    @property
    def readable(self) -> bool:
        """A data segment or a readable code segment."""
        return not self.is_system and (not self.is_code or bool(self.kind & 2))

    @property
    def limit(self) -> int:
        """Limit in bytes."""
        limit = self.raw & 0xFFFF | self.raw >> 32 & 0xF_0000
        return limit << 12 | 0xFFF if self.raw >> 55 & 1 else limit

    @property
    def base(self) -> int:
        """Base address."""
        return self.raw >> 16 & 0xFF_FFFF | self.raw >> 32 & 0xFF00_0000


@dataclass(frozen=True)
class Loaded:
    """A segment register: None for `hidden` after a null selector.

    `hidden` has the attributes in the layout of VMX, the limit in bytes and the base.
    """

    selector: int
    hidden: tuple[int, int, int] | None


def null(selector: int) -> bool:
    """The first descriptor of the GDT is not used."""
    return selector & 0xFFFC == 0


def loaded(selector: int, descriptor: Descriptor) -> Loaded:
    """A register after its load, which has set the accessed bit."""
    attrib = descriptor.raw >> 40 & 0xF0FF | 1
    return Loaded(selector, (attrib, descriptor.limit, descriptor.base))


@dataclass(frozen=True)
class Tables:
    """The descriptor tables: from index to descriptor, and their limits; no LDT: limit None."""

    gdt: Mapping[int, int]
    gdt_limit: int
    ldt: Mapping[int, int]
    ldt_limit: int | None

    def find(self, selector: int) -> Descriptor | None:
        """The descriptor a selector names, None outside of the table."""
        in_ldt = bool(selector & 4)
        limit = self.ldt_limit if in_ldt else self.gdt_limit
        if limit is None or (selector | 7) > limit:
            return None
        return Descriptor((self.ldt if in_ldt else self.gdt).get(selector >> 3, 0))

    def get(self, selector: int) -> Descriptor:
        """As `find`, but #GP with the selector outside of the table."""
        found = self.find(selector)
        if found is None:
            raise refuse(GP, selector)
        return found


@dataclass(frozen=True)
class Machine:
    """What loads depend on besides their operands."""

    tables: Tables
    cpl: int
    long: bool
    code64: bool

    def load_data(self, selector: int) -> Loaded:
        """MOV to DS, ES, FS, GS."""
        if null(selector):
            return Loaded(selector, None)
        descriptor = self.tables.get(selector)
        if not descriptor.readable:
            raise refuse(GP, selector)
        rpl = selector & 3
        if not descriptor.conforming and max(rpl, self.cpl) > descriptor.dpl:
            raise refuse(GP, selector)
        if not descriptor.present:
            raise refuse(NP, selector)
        return loaded(selector, descriptor)

    def load_stack(self, selector: int) -> Loaded:
        """MOV to SS, LSS."""
        rpl = selector & 3
        if null(selector):
            if self.code64 and self.cpl < 3 and rpl == self.cpl:
                return Loaded(selector, None)
            raise FaultError(GP, 0)
        return self._stack_of_level(selector, self.cpl)

    def _stack_of_level(self, selector: int, level: int) -> Loaded:
        descriptor = self.tables.get(selector)
        if selector & 3 != level or descriptor.dpl != level or not descriptor.writable:
            raise refuse(GP, selector)
        if not descriptor.present:
            raise refuse(SS, selector)
        return loaded(selector, descriptor)

    def _not_long_and_big(self, selector: int, code: Descriptor) -> None:
        if self.long and code.long and code.big:
            raise refuse(GP, selector)

    def _inside(self, code: Descriptor, offset: int) -> None:
        if not (self.long and code.long) and offset > code.limit:
            raise FaultError(GP, 0)

    def far_jump(self, selector: int, offset: int) -> tuple[Loaded, int]:
        """CS and RIP after JMP."""
        code, at, target, _ = self._far_target(selector, offset)
        if target is not None:
            # Through a gate: the RPL of its code selector does not count.
            if code.conforming and code.dpl > self.cpl:
                raise refuse(GP, target)
            if not code.conforming and code.dpl != self.cpl:
                raise refuse(GP, target)
            self._gate_code_present(target, code)
        self._inside(code, at)
        named = selector if target is None else target
        return loaded(named & ~3 | self.cpl, code), at

    def far_call(self, selector: int, offset: int) -> tuple[Loaded, int, int, int]:
        """CS and RIP after CALL, the bytes of what it pushes, and the new CPL."""
        code, at, target, size = self._far_target(selector, offset)
        level = self.cpl
        if target is not None:
            if code.dpl > self.cpl:
                raise refuse(GP, target)
            self._gate_code_present(target, code)
            if not code.conforming:
                level = code.dpl
        self._inside(code, at)
        named = selector if target is None else target
        return loaded(named & ~3 | level, code), at, size, level

    def _far_target(self, selector: int, offset: int) -> tuple[Descriptor, int, int | None, int]:
        """Code segment, offset, the selector in the gate if there is one, bytes of a push."""
        if null(selector):
            raise FaultError(GP, 0)
        descriptor = self.tables.get(selector)
        if descriptor.is_system:
            return self._gate_target(selector, descriptor)
        if not descriptor.is_code:
            raise refuse(GP, selector)
        self._not_long_and_big(selector, descriptor)
        if descriptor.conforming:
            allowed = descriptor.dpl <= self.cpl
        else:
            allowed = descriptor.dpl == self.cpl and selector & 3 <= self.cpl
        if not allowed:
            raise refuse(GP, selector)
        if not descriptor.present:
            raise refuse(NP, selector)
        return descriptor, offset, None, 4

    def _gate_target(self, selector: int, gate: Descriptor) -> tuple[Descriptor, int, int, int]:
        task = gate.kind in TASK_TYPES and not self.long
        call = gate.kind == 12 or (gate.kind == 4 and not self.long)
        if not task and not call:
            raise refuse(GP, selector)
        if gate.dpl < max(self.cpl, selector & 3):
            raise refuse(GP, selector)
        upper = self._upper_half(selector, gate) if self.long else 0
        if not gate.present:
            raise refuse(NP, selector)
        if task:
            raise NotModelledError
        target = gate.raw >> 16 & 0xFFFF
        if null(target):
            raise FaultError(GP, 0)
        code = self.tables.get(target)
        if not code.is_code:
            raise refuse(GP, target)
        at = gate.raw & 0xFFFF
        if gate.kind == 12:
            at |= gate.raw >> 32 & 0xFFFF_0000
        return code, at | upper << 32, target, 8 if self.long else CALL_GATES[gate.kind]

    def _upper_half(self, selector: int, gate: Descriptor) -> int:
        """Bits 63:32 of the offset; the type field of the upper half must be zero."""
        upper = self.tables.find(selector + 8)
        if upper is None or upper.raw >> 40 & 0x1F:
            if not gate.present:
                raise NotModelledError
            raise refuse(GP, selector)
        return upper.raw & 0xFFFF_FFFF

    def _gate_code_present(self, target: int, code: Descriptor) -> None:
        if self.long and (not code.long or code.big):
            raise refuse(GP, target)
        if not code.present:
            raise refuse(NP, target)

    def far_return(
        self, selector: int, offset: int, stack: int, *, always_pops_stack: bool
    ) -> tuple[Loaded, Loaded | None]:
        """CS and SS after RET or IRET; None: SS is not popped."""
        if null(selector):
            raise FaultError(GP, 0)
        code = self.tables.get(selector)
        level = selector & 3
        if not code.is_code or level < self.cpl:
            raise refuse(GP, selector)
        self._not_long_and_big(selector, code)
        fits = code.dpl <= level if code.conforming else code.dpl == level
        if not fits:
            raise refuse(GP, selector)
        if not code.present:
            raise refuse(NP, selector)
        new_stack = None
        if level > self.cpl or always_pops_stack:
            new_stack = self._returned_stack(stack, level, code)
        self._inside(code, offset)
        return loaded(selector, code), new_stack

    def _returned_stack(self, stack: int, level: int, code: Descriptor) -> Loaded:
        if null(stack):
            if stack & 3 != level:
                raise NotModelledError
            if self.long and code.long and level < 3:
                return Loaded(stack, None)
            raise FaultError(GP, 0)
        return self._stack_of_level(stack, level)


def dropped_by_return(segment: Loaded, level: int) -> bool:
    """Whether a return to a lower privilege makes a data segment null."""
    if segment.hidden is None:
        return False
    attrib = segment.hidden[0]
    conforming = attrib & 0x0C == 0x0C
    return not conforming and attrib >> 5 & 3 < level
