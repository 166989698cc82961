"""Random paging structures for one guest, with the processor that they are for."""

from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.walk import layout
from tests.walk.model import PAGE, Entry, Memory, Mode

_ALL: Final = Entry.P | Entry.RW | Entry.US
_OWN: Final = _ALL | Entry.A
_LARGE_LEVELS: Final = {Mode.LEGACY: (1,), Mode.PAE: (1,), Mode.LEVEL4: (1, 2), Mode.LEVEL5: (1, 2)}
_SIZE_BITS: Final = {0: 12, 1: 21, 2: 30}
_OUTSIDE: Final = 0x3000_0000
"""Where no memory is."""
_PHYSICAL_BITS: Final = (36, 40, 45, 48, 52)


@dataclass
class World:
    """The tables, by guest-physical page in `memory`, which holds the data pages as well.

    `slots`: per level the indexes at which tables have entries. `roots`: addresses for CR3.
    `own`: tables on the way to the guest's own pages. `pools`: by level, the others.
    """

    random: Random
    mode: Mode
    physical_bits: int
    intel: bool
    pages_1g: bool
    many_roots: bool
    memory: Memory = field(default_factory=Memory)
    roots: list[int] = field(default_factory=list)
    slots: list[list[int]] = field(default_factory=list)
    tables: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    pools: list[list[int]] = field(default_factory=list)

    @property
    def top(self) -> int:
        """The level of the table that CR3 points to; that of PTEs is 0."""
        return self.mode.value - 1

    @property
    def index_bits(self) -> int:
        """Bits of a linear address for each level."""
        return 10 if self.mode is Mode.LEGACY else 9


def build(random: Random, mode: Mode) -> World:
    """A world of a mode."""
    world = World(
        random=random,
        mode=mode,
        physical_bits=random.choice(_PHYSICAL_BITS),
        intel=random.random() < 0.5,
        pages_1g=random.random() < 0.8,
        many_roots=random.random() < 0.5,
    )
    _fill_data(world)
    world.slots = [_slots(world, level) for level in range(world.top + 1)]
    world.own = _own_tables(world)
    below: list[int] = []
    for level in range(world.top):
        _fill(world, world.own[level], level, below)
        below = [_table(world, level, below) for _ in range(5 - level)]
        world.pools.append(below)
    for _ in range(3 if world.many_roots else 1):
        make = _pae_root if world.mode is Mode.PAE else _root
        world.roots.append(make(world, world.own[-1], below))
    return world


def _fill_data(world: World) -> None:
    """Each 16 bytes: INT3, where they are, zeros; a REP prefix at the end of a page.

    Byte 5 is zero, so that the first eight bytes as a descriptor are no code or data segment.
    """
    for number, window in enumerate(layout.DATA):
        for page in range(layout.DATA_PAGES):
            content = bytearray(PAGE)
            for granule in range(0, PAGE, 16):
                place = bytes((0xCC, number, page, granule >> 4, 0x5A, 0, 0xA5, 0))
                content[granule : granule + 8] = place
            content[-1] = 0xF3
            world.memory.pages[window + page * PAGE] = content


def _slots(world: World, level: int) -> list[int]:
    """Index 2 at level 1 and those below DATA_PAGES at level 0 lead large pages to data."""
    random, entries = world.random, 1 << world.index_bits
    if level == 0:
        return [*random.sample(range(layout.DATA_PAGES), 9), entries - 1]
    if level == 2 and world.mode is Mode.PAE:
        return [1, 2, 3]
    if level == 1:
        return [2, *random.sample(range(3, entries), 6), entries - 1]
    return [*random.sample(range(1, entries - 1), 5), entries // 2, entries - 1]


def _width(world: World) -> int:
    return 4 if world.mode is Mode.LEGACY else 8


def _new_table(world: World) -> int:
    address = layout.TABLES + len(world.tables) * PAGE
    world.tables.append(address)
    world.memory.pages[address] = bytearray(PAGE)
    return address


def _own_tables(world: World) -> list[int]:
    """Tables that map the guest's own pages, by level; the last is for entry 0 of the root."""
    own = [_new_table(world) for _ in range(world.top)]
    for page in range(0, layout.FIXED_END, PAGE):
        user = Entry.US if page == layout.USER_CODE else 0
        entry = page | Entry.P | Entry.RW | user | Entry.A | Entry.D
        world.memory.write(own[0] + page // PAGE * _width(world), _width(world), int(entry))
    for upper, lower in zip(own[1:], own, strict=False):
        world.memory.write(upper, _width(world), lower | _OWN)
    return own


def _table(world: World, level: int, below: list[int]) -> int:
    table = _new_table(world)
    _fill(world, table, level, below)
    return table


def _fill(world: World, table: int, level: int, below: list[int]) -> None:
    """Entries at the slots, but where the guest's own pages are mapped."""
    width = _width(world)
    for index in world.slots[level]:
        place = table + index * width
        if not world.memory.read(place, width):
            world.memory.write(place, width, entry(world, level, below))


def _root(world: World, own: int, below: list[int]) -> int:
    root = _table(world, world.top, below)
    world.memory.write(root, _width(world), own | _OWN)
    return root


def _pae_root(world: World, own: int, directories: list[int]) -> int:
    """A table of four PDPTEs. A processor of Intel refuses reserved bits when it loads them."""
    random = world.random
    root = _new_table(world) + random.randrange(0, PAGE, 32)
    world.memory.write(root, 8, own | Entry.P)
    for number in (1, 2, 3):
        pdpte = random.choice(directories) | random.getrandbits(3) << 9 | random.getrandbits(2) << 3
        if random.random() < 0.9:
            pdpte |= Entry.P
        if not world.intel and random.random() < 0.05:
            pdpte |= 1 << random.choice((1, 2, 5, 6, 7, 8, *range(world.physical_bits, 64)))
        world.memory.write(root + 8 * number, 8, pdpte)
    return root


def entry(world: World, level: int, below: list[int]) -> int:
    """One entry: mostly present and permissive, reserved bits rarely."""
    random = world.random

    def sometimes(probability: float, bits: int) -> int:
        return bits if random.random() < probability else 0

    maps_page = level == 0 or (
        level in _LARGE_LEVELS[world.mode] and random.random() < (0.35 if below else 1)
    )
    raw = _page(world, level) if maps_page else _pointer(world, below)
    if level:
        raw |= Entry.PS if maps_page else sometimes(0.02, Entry.PS)
    raw |= sometimes(0.93, Entry.P) | sometimes(0.85, Entry.RW) | sometimes(0.8, Entry.US)
    raw |= random.getrandbits(12) & 0xF78
    if world.mode is Mode.LEGACY:
        return raw & 0xFFFF_FFFF
    raw |= sometimes(0.1, Entry.XD)
    raw |= sometimes(0.03, 1 << random.randrange(world.physical_bits, 53))
    if world.mode is Mode.PAE:
        return raw | sometimes(0.02, 1 << random.randrange(52, 63))
    return raw | random.getrandbits(11) << 52


def _pointer(world: World, below: list[int]) -> int:
    return _OUTSIDE if world.random.random() < 0.01 else world.random.choice(below)


def _page(world: World, level: int) -> int:
    """The address field of an entry that maps a page with data in it."""
    random = world.random
    if world.mode is Mode.LEGACY:
        if level == 0:
            return layout.DATA[0] + random.randrange(layout.DATA_PAGES) * PAGE
        high = random.choice((0, 0, 1, 1 << random.randrange(8), 1 << 8)) << 13
        return layout.DATA[0] | high
    window = random.choice(layout.DATA)
    if level == 0:
        return window + random.randrange(layout.DATA_PAGES) * PAGE
    size_bits = _SIZE_BITS[level]
    base = window & -(1 << size_bits)
    reserved = 1 << random.randrange(13, size_bits) if random.random() < 0.1 else 0
    return base | reserved | random.getrandbits(1) << 12
