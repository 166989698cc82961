"""The page walk, as plainly as SDM volume 3, "Paging", says it: no cache, one access at a time.

What the manual leaves open is decided thus: a walk that faults sets no accessed bit; an entry
where there is no memory is not present; the first part of an access across a page end is walked,
and marked, before the second.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import Final

PAGE: Final = 0x1000


class Mode(Enum):
    """How linear addresses are translated, by number of levels."""

    LEGACY = 2
    PAE = 3
    LEVEL4 = 4
    LEVEL5 = 5

    @property
    def long(self) -> bool:
        """64-bit linear addresses."""
        return self in (Mode.LEVEL4, Mode.LEVEL5)


class Kind(Enum):
    """What an access does."""

    READ = "read"
    WRITE = "write"
    FETCH = "fetch"


class Who(Enum):
    """With which rights: of CPL 3, of CPL 0, or those of the processor itself at any CPL."""

    USER = "user"
    SUPERVISOR = "supervisor"
    IMPLICIT = "implicit"


@dataclass(frozen=True, slots=True)
class Access:
    """One access; `ac` is EFLAGS.AC."""

    kind: Kind
    who: Who
    ac: bool = False


class Entry(IntFlag):
    """Bits of paging-structure entries."""

    P = 1 << 0
    RW = 1 << 1
    US = 1 << 2
    A = 1 << 5
    D = 1 << 6
    PS = 1 << 7
    G = 1 << 8
    XD = 1 << 63


class ErrorCode(IntFlag):
    """Bits of a page fault's error code."""

    P = 1 << 0
    WR = 1 << 1
    US = 1 << 2
    RSVD = 1 << 3
    ID = 1 << 4
    PK = 1 << 5


@dataclass(frozen=True)
class Registers:
    """What paging depends on besides memory, with the control bits by name."""

    mode: Mode
    root: int
    """The address in CR3."""
    physical_bits: int
    pages_1g: bool
    pdptes: tuple[int, ...] | None = None
    """The PDPTE registers of an Intel processor; AMD's has none."""
    wp: bool = False
    pse: bool = False
    smep: bool = False
    smap: bool = False
    pke: bool = False
    nxe: bool = False
    pkru: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a walk."""

    name: str
    gpa: int
    width: int
    raw: int


@dataclass(frozen=True, slots=True)
class Fault:
    """The walk ends in #PF with this error code."""

    error_code: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The walk ends at a guest-physical address. `marks`: bits to set in entries."""

    gpa: int
    marks: tuple[tuple[int, int, int], ...]
    steps: tuple[Step, ...]


class Memory:
    """Guest-physical memory by page address."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}

    def read(self, gpa: int, size: int) -> int | None:
        """A little-endian number inside a page, if there is memory."""
        page = self.pages.get(gpa & -PAGE)
        offset = gpa & PAGE - 1
        return None if page is None else int.from_bytes(page[offset : offset + size], "little")

    def write(self, gpa: int, size: int, value: int) -> None:
        """Stores a little-endian number inside a page."""
        offset = gpa & PAGE - 1
        self.pages[gpa & -PAGE][offset : offset + size] = value.to_bytes(size, "little")


_LEVELS: Final = {
    Mode.LEGACY: (("PDE", 22), ("PTE", 12)),
    Mode.PAE: (("PDE", 21), ("PTE", 12)),
    Mode.LEVEL4: (("PML4E", 39), ("PDPTE", 30), ("PDE", 21), ("PTE", 12)),
    Mode.LEVEL5: (("PML5E", 48), ("PML4E", 39), ("PDPTE", 30), ("PDE", 21), ("PTE", 12)),
}
"""The structures on the way and the lowest linear-address bit that each translates."""
_ADDRESS: Final = 0x000F_FFFF_FFFF_F000


def _bits(high: int, low: int) -> int:
    """Ones from bit `high` down to bit `low`."""
    return (1 << high + 1) - (1 << low) if high >= low else 0


def _maps_page(registers: Registers, name: str, entry: int) -> bool:
    """Whether a present entry maps a page. A PDPTE of PAE paging is not asked."""
    match name:
        case "PTE":
            return True
        case "PDE":
            large = registers.mode is not Mode.LEGACY or registers.pse
            return large and bool(entry & Entry.PS)
        case "PDPTE":
            return registers.pages_1g and bool(entry & Entry.PS)
    return False


def _reserved(registers: Registers, name: str, maps_page: bool) -> int:
    """ "Reserved Bits" of a present entry, from the tables of entry formats."""
    if registers.mode is Mode.LEGACY:
        if name == "PDE" and maps_page:
            # Bits 20:13 are address bits 39:32 as far as the processor has them; bit 21 is 0.
            return _bits(21, 13 + min(registers.physical_bits, 40) - 32)
        return 0
    reserved = _bits(51, registers.physical_bits)
    if registers.mode is Mode.PAE:
        reserved |= _bits(62, 52)
    if not registers.nxe:
        reserved |= Entry.XD
    if name in ("PML5E", "PML4E") or (name == "PDPTE" and not maps_page):
        reserved |= Entry.PS
    if maps_page and name == "PDPTE":
        reserved |= _bits(29, 13)
    if maps_page and name == "PDE":
        reserved |= _bits(20, 13)
    return reserved


def _page_address(registers: Registers, name: str, entry: int, low_bit: int) -> int:
    if registers.mode is Mode.LEGACY and name == "PDE":
        return entry & 0xFFC0_0000 | (entry >> 13 & 0xFF) << 32
    return entry & _ADDRESS & -(1 << low_bit)


def _denied_by_key(registers: Registers, access: Access, user_page: bool, leaf: int) -> bool:
    """ "Protection Keys": of data accesses to user pages."""
    in_use = registers.mode.long and registers.pke
    if not in_use or not user_page or access.kind is Kind.FETCH:
        return False
    rights = registers.pkru >> 2 * (leaf >> 59 & 15)
    access_disable, write_disable = rights & 1, rights & 2
    bound = access.who is Who.USER or registers.wp
    return bool(access_disable or (access.kind is Kind.WRITE and write_disable and bound))


def _allowed(registers: Registers, access: Access, entries: list[int]) -> bool:
    """ "Determination of Access Rights", without protection keys."""
    user_page = all(entry & Entry.US for entry in entries)
    writable = all(entry & Entry.RW for entry in entries)
    execute_disable = registers.nxe and any(entry & Entry.XD for entry in entries)
    if access.who is Who.USER:
        if not user_page:
            return False
        return {
            Kind.READ: True,
            Kind.WRITE: writable,
            Kind.FETCH: not execute_disable,
        }[access.kind]
    if access.kind is Kind.FETCH:
        return not execute_disable and not (user_page and registers.smep)
    explicit_with_ac = access.who is Who.SUPERVISOR and access.ac
    if user_page and registers.smap and not explicit_with_ac:
        return False
    return access.kind is Kind.READ or writable or not registers.wp


def _error_code(registers: Registers, access: Access, cause: int) -> int:
    code = cause
    if access.kind is Kind.WRITE:
        code |= ErrorCode.WR
    if access.who is Who.USER:
        code |= ErrorCode.US
    if access.kind is Kind.FETCH and (registers.nxe or registers.smep):
        code |= ErrorCode.ID
    return int(code)


def _root(registers: Registers, memory: Memory, address: int) -> tuple[int, int | None]:
    """The first table with A bits, or with what cause there is none."""
    if registers.mode is not Mode.PAE:
        return 0, registers.root
    number = address >> 30
    if registers.pdptes is not None:
        pdpte = registers.pdptes[number]
    else:
        pdpte = memory.read(registers.root + 8 * number, 8) or 0
    if not pdpte & Entry.P:
        return 0, None
    reserved = _bits(2, 1) | _bits(8, 5) | _bits(63, registers.physical_bits)
    if pdpte & reserved:
        return ErrorCode.P | ErrorCode.RSVD, None
    return 0, pdpte & _ADDRESS


def walk(registers: Registers, memory: Memory, address: int, access: Access) -> Found | Fault:
    """Translates a canonical address."""
    width = 4 if registers.mode is Mode.LEGACY else 8
    index_bits = 10 if registers.mode is Mode.LEGACY else 9
    steps: list[Step] = []
    entries: list[int] = []
    cause, table = _root(registers, memory, address)

    def fault(cause: int) -> Fault:
        return Fault(_error_code(registers, access, cause), tuple(steps))

    if table is None:
        return fault(cause)
    for name, low_bit in _LEVELS[registers.mode]:
        gpa = table + width * (address >> low_bit & (1 << index_bits) - 1)
        entry = memory.read(gpa, width) or 0
        steps.append(Step(name, gpa, width, entry))
        if not entry & Entry.P:
            return fault(0)
        maps_page = _maps_page(registers, name, entry)
        if entry & _reserved(registers, name, maps_page):
            return fault(ErrorCode.P | ErrorCode.RSVD)
        entries.append(entry)
        if maps_page:
            break
        table = entry & _ADDRESS
    user_page = all(entry & Entry.US for entry in entries)
    key = _denied_by_key(registers, access, user_page, entries[-1])
    if key or not _allowed(registers, access, entries):
        return fault(ErrorCode.P | (ErrorCode.PK if key else 0))
    base = _page_address(registers, name, entry, low_bit)
    return Found(base | address & (1 << low_bit) - 1, tuple(_marks(steps, access)), tuple(steps))


def _marks(steps: list[Step], access: Access) -> Iterator[tuple[int, int, int]]:
    """ "Accessed and Dirty Flags": place, width and value of entries that change."""
    for step in steps:
        wanted = step.raw | Entry.A
        if step is steps[-1] and access.kind is Kind.WRITE:
            wanted |= Entry.D
        if wanted != step.raw:
            yield step.gpa, step.width, int(wanted)
