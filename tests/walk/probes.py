"""Random records for the program, and what the model expects of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from struct import pack_into
from typing import Final

from tests.walk import control as controls
from tests.walk import edits, layout
from tests.walk.control import Control
from tests.walk.edits import Edit
from tests.walk.model import PAGE, Access, Fault, Found, Kind, Registers, Who, walk
from tests.walk.program import Action, Field
from tests.walk.tables import World

_AC: Final = 1 << 18
_RFLAGS: Final = 2
_CONTROL_CHANGES: Final = 0.02
_EDITS: Final = _CONTROL_CHANGES + 0.02
_ADDRESSES: Final = (1 << 64) - 1
_KINDS: Final = {
    Action.READ: Kind.READ,
    Action.WRITE: Kind.WRITE,
    Action.MODIFY: Kind.WRITE,
    Action.FETCH: Kind.FETCH,
    Action.DESCRIPTOR: Kind.READ,
}
_DESCRIPTOR_FAULT: Final = 4
"""Error code of the descriptor in the data pages, which is none of a data segment."""


@dataclass(frozen=True)
class Outcome:
    """What a record says afterwards; fields that an outcome does not have are 0."""

    vector: int
    error_code: int = 0
    cr2: int = 0
    result: int = 0

    def __str__(self) -> str:
        return (
            f"vector {self.vector:#x} code {self.error_code:#x} "
            f"CR2 {self.cr2:#x} result {self.result:#x}"
        )


@dataclass(frozen=True)
class Probe:
    """One access."""

    action: Action
    address: int
    value: int
    user: bool
    ac: bool
    pkru: int

    @property
    def access(self) -> Access:
        """As the model wants it."""
        if self.action is Action.DESCRIPTOR:
            return Access(Kind.READ, Who.IMPLICIT, self.ac)
        who = Who.USER if self.user else Who.SUPERVISOR
        return Access(_KINDS[self.action], who, self.ac)

    def record(self, into: bytearray, at: int) -> None:
        """The record's input."""
        rflags = _RFLAGS | (_AC if self.ac else 0)
        fields = (self.address, self.value, self.action, rflags, self.user, self.pkru)
        pack_into("<6Q", into, at, *fields)


def control_record(control: Control, into: bytearray, at: int) -> None:
    """The record that loads control registers."""
    pack_into("<Q", into, at + Field.ACTION, Action.CONTROL)
    values = (control.cr0, control.cr3, control.cr4, control.efer)
    pack_into("<4Q", into, at + Field.CR0, *values)


def stop_record(into: bytearray, at: int) -> None:
    """The record that ends a run."""
    pack_into("<Q", into, at + Field.ACTION, Action.STOP)


class Generator:
    """Probes for a world in order; keeps the model's memory in step with them."""

    def __init__(self, world: World, control: Control) -> None:
        self.world = world
        self.random: Random = world.random
        self.control = control
        self.pkru = 0
        self.registers = self._registers()
        self.steps = self._steps()

    def _steps(self) -> Iterator[Control | Edit | tuple[Probe, Outcome]]:
        """What the program is to do, without end."""
        while True:
            chance = self.random.random()
            if chance < _CONTROL_CHANGES:
                yield self._change_control()
            elif chance < _EDITS:
                yield from self._edit()
            else:
                yield self._next(self._page())

    def load(self, control: Control) -> None:
        """The program loads control registers."""
        self.control = control
        self.registers = self._registers()

    def _change_control(self) -> Control:
        self.load(controls.changed(self.world, self.control, self.random))
        return self.control

    def _edit(self) -> Iterator[Edit | tuple[Probe, Outcome]]:
        """Changes an entry on the way to a page; the page is probed before and after."""
        world = self.world
        page = self._page()
        if world.mode.long and not self._canonical(page):
            return
        access = Access(Kind.READ, Who.SUPERVISOR, True)
        found = walk(self.registers, world.memory, page, access).steps
        if not found:
            return
        step = self.random.choice(found)
        value = edits.of_step(world, step)
        if value is None:
            return
        if before := self._expected(page):
            yield before
        world.memory.write(step.gpa, step.width, value)
        forget, pcid = edits.one_page(world, self.control)
        yield Edit(step.gpa, step.width, value, forget, pcid, page)
        for _ in range(2):
            # The page after it has not been forgotten.
            if after := self._expected(page, alone=True):
                yield after
        now = world.memory.read(step.gpa, step.width) or 0
        forget = edits.everything(world, self.control)
        yield Edit(step.gpa, step.width, now, forget, 0, 0)

    def _next(self, page: int) -> tuple[Probe, Outcome]:
        """A probe whose outcome is known; those that would touch anything but data are dropped."""
        while True:
            if self.random.random() < 0.15:
                self.pkru = self.random.getrandbits(32) & self.random.getrandbits(32)
                self.registers = self._registers()
            if found := self._expected(page):
                return found
            page = self._page()

    def _expected(self, page: int, *, alone: bool = False) -> tuple[Probe, Outcome] | None:
        probe = self._probe(page, alone)
        outcome = self._expect(probe)
        return (probe, outcome) if outcome else None

    def _registers(self) -> Registers:
        return controls.registers(self.world, self.control, self.pkru, self.world.memory)

    def _probe(self, page: int, alone: bool) -> Probe:
        random = self.random
        action = random.choice(
            (Action.READ, Action.WRITE, Action.FETCH, Action(random.randrange(5)))
        )
        value = random.getrandbits(64 if self.world.mode.long else 32)
        if not alone and action is not Action.DESCRIPTOR and random.random() < 0.05:
            return self._crossing(action, page, value)
        granule = random.randrange(0, PAGE - 16, 16)
        offset = granule + (8 if action in (Action.WRITE, Action.MODIFY) else 0)
        user, ac = random.random() < 0.5, random.random() < 0.5
        return Probe(action, page + offset, value, user, ac, self.pkru)

    def _crossing(self, action: Action, page: int, value: int) -> Probe:
        """Across the end of a page, without a change of the code that is there."""
        size = self._size
        offset = PAGE - 1 if action is Action.FETCH else PAGE - size // 2
        middle = 8 * (size // 2 - 1)
        value = value & ~(0xFFFF << middle) | 0xCCF3 << middle
        user, ac = self.random.random() < 0.5, self.random.random() < 0.5
        return Probe(action, page + offset, value, user, ac, self.pkru)

    @property
    def _size(self) -> int:
        return 8 if self.world.mode.long else 4

    def _page(self) -> int:
        """A linear page, mostly one that the tables know."""
        world, random = self.world, self.random
        address = 0
        for level, slots in enumerate(world.slots):
            known = random.random() < 0.99
            bits = 2 if level == 2 and world.index_bits == 9 and not world.mode.long else 0
            index = random.choice(slots) if known else random.getrandbits(bits or world.index_bits)
            address |= index << 12 + level * world.index_bits
        if not world.mode.long:
            return address
        if random.random() < 0.02:
            return random.getrandbits(52) << 12
        width = 57 if world.top == 4 else 48
        return address | -(address >> width - 1) << width & 0xFFFF_FFFF_FFFF_F000

    def _canonical(self, address: int) -> bool:
        width = 57 if self.world.top == 4 else 48
        return address >> width - 1 in (0, (1 << 65 - width) - 1)

    def _expect(self, probe: Probe) -> Outcome | None:
        size = 8 if probe.action is Action.DESCRIPTOR else self._size
        if probe.action is Action.FETCH:
            size = 2 if probe.address % PAGE == PAGE - 1 else 1
        last = probe.address + size - 1
        if self.world.mode.long:
            # 2^64 wraps to 0, which is canonical: so does the host's processor.
            legal = self._canonical(probe.address), self._canonical(last & _ADDRESSES)
            if not all(legal):
                known = probe.action in (Action.READ, Action.WRITE, Action.MODIFY) or not any(legal)
                refused = known and probe.action is not Action.DESCRIPTOR
                return Outcome(13) if refused else None
        elif last >> 32:
            return None
        return self._access(probe, size)

    def _access(self, probe: Probe, size: int) -> Outcome | None:
        parts = list(_parts(probe.address, size))
        walks = [walk(self.registers, self.world.memory, at, probe.access) for at, _ in parts]
        for found in walks:
            if isinstance(found, Fault):
                break
            if not _is_data(found.gpa):
                return None
        places: list[tuple[int, int]] = []
        for at, length in parts:
            # Once more: the first part may have marked what the second one uses.
            found = walk(self.registers, self.world.memory, at, probe.access)
            if isinstance(found, Fault):
                return Outcome(14, found.error_code, at)
            self._mark(found)
            places.append((found.gpa, length))
        return self._complete(probe, places)

    def _mark(self, found: Found) -> None:
        for gpa, width, value in found.marks:
            self.world.memory.write(gpa, width, value)

    def _complete(self, probe: Probe, places: list[tuple[int, int]]) -> Outcome | None:
        memory = self.world.memory
        match probe.action:
            case Action.READ:
                result, shift = 0, 0
                for gpa, length in places:
                    result |= (memory.read(gpa, length) or 0) << shift
                    shift += 8 * length
                return Outcome(0x80, result=result)
            case Action.WRITE:
                left = probe.value
                for gpa, length in places:
                    memory.write(gpa, length, left & (1 << 8 * length) - 1)
                    left >>= 8 * length
                return Outcome(0x80, result=probe.value)
            case Action.MODIFY:
                return Outcome(0x80, result=probe.value)
            case Action.FETCH:
                return Outcome(3, result=probe.address + sum(length for _, length in places))
        return Outcome(13, _DESCRIPTOR_FAULT)

    def walks(self, probe: Probe, control: Control) -> list[Found | Fault]:
        """The walks of a probe as they would be now, for a report."""
        memory = self.world.memory
        registers = controls.registers(self.world, control, probe.pkru, memory)
        parts = _parts(probe.address, self._size)
        return [walk(registers, memory, at, probe.access) for at, _ in parts]


def _parts(address: int, size: int) -> Iterator[tuple[int, int]]:
    """Address and length of the parts of an access in each page."""
    first = min(size, PAGE - address % PAGE)
    yield address, first
    if first < size:
        yield address + first & _ADDRESSES, size - first


def _is_data(gpa: int) -> bool:
    return any(window <= gpa < window + layout.DATA_PAGES * PAGE for window in layout.DATA)
