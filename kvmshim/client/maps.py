"""The memory mappings of a process as /proc shows them: maps, smaps and pagemap; proc(5).

Pure: text and bytes in, records out. Addresses are the process's own, sizes are bytes.
"""

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Self

PAGE: Final = 4096
_PAGEMAP_ENTRY: Final = 8

_POPULATION: Final = frozenset({"Rss:", "Swap:", "Shared_Hugetlb:", "Private_Hugetlb:"})
_PRESENT_OR_SWAPPED: Final = 0xC0
_MARK: Final = bytes(1 if top & _PRESENT_OR_SWAPPED else 0 for top in range(256))


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of maps, or the part of it that was asked for."""

    start: int
    end: int
    protection: int  # PROT_READ | PROT_WRITE | PROT_EXEC
    shared: bool
    offset: int  # of `start`, in the file
    device: int  # as st_dev
    inode: int  # 0: no file
    name: str

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def writable(self) -> bool:
        return bool(self.protection & mmap.PROT_WRITE)

    @property
    def readable(self) -> bool:
        return bool(self.protection & mmap.PROT_READ)

    def clipped(self, start: int, end: int) -> Self:
        """The part inside [start, end), which it must overlap."""
        first = max(self.start, start)
        offset = self.offset + (first - self.start if self.inode else 0)
        return replace(self, start=first, end=min(self.end, end), offset=offset)


def parse_maps(text: str) -> list[Mapping]:
    """All mappings, by ascending address."""
    return [_parse_line(line) for line in text.splitlines()]


def _parse_line(line: str) -> Mapping:
    bounds, permissions, offset, device, inode, *name = line.split(maxsplit=5)
    start, end = bounds.split("-")
    major, minor = device.split(":")
    return Mapping(
        start=int(start, 16),
        end=int(end, 16),
        protection=(mmap.PROT_READ if permissions[0] == "r" else 0)
        | (mmap.PROT_WRITE if permissions[1] == "w" else 0)
        | (mmap.PROT_EXEC if permissions[2] == "x" else 0),
        shared=permissions[3] == "s",
        offset=int(offset, 16),
        device=os.makedev(int(major, 16), int(minor, 16)),
        inode=int(inode),
        name=name[0] if name else "",
    )


def covers(mappings: list[Mapping], start: int, end: int) -> bool:
    """Whether ascending mappings leave no hole in [start, end)."""
    reached = start
    for mapping in mappings:
        if mapping.start > reached:
            return False
        reached = max(reached, mapping.end)
    return reached >= end


@dataclass(frozen=True, slots=True)
class MappingState:
    """What smaps says beyond maps about one mapping."""

    flags: frozenset[str]  # the two-letter words of VmFlags
    page_size: int  # bytes; above PAGE for hugetlb
    populated: bool  # some page is in memory or in swap


def parse_smaps(text: str) -> dict[int, MappingState]:
    """The state of every mapping, by its start address."""
    states: dict[int, MappingState] = {}
    start, page_size, populated = 0, PAGE, False
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        if key == "VmFlags:":
            states[start] = MappingState(frozenset(rest.split()), page_size, populated)
        elif key == "KernelPageSize:":
            page_size = int(rest.split()[0]) * 1024
        elif key in _POPULATION:
            populated |= rest.split()[0] != "0"
        elif not key.endswith(":"):
            start, populated = int(key.split("-")[0], 16), False
    return states


def present_runs(pagemap: bytes) -> Iterator[tuple[int, int]]:
    """(first page, number of pages) of each stretch that has contents, in memory or in swap.

    `pagemap` is the part of /proc/PID/pagemap for the pages in question, whole entries.
    """
    marks = pagemap[_PAGEMAP_ENTRY - 1 :: _PAGEMAP_ENTRY].translate(_MARK)
    first = marks.find(1)
    while first >= 0:
        end = marks.find(0, first)
        end = len(marks) if end < 0 else end
        yield first, end - first
        first = marks.find(1, end)
