"""The memory mappings of a process as /proc shows them: maps, smaps and pagemap; proc(5).

Pure: text and bytes in, records out. Addresses are the process's own, sizes are bytes.
"""

import mmap
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Self

PAGE: Final = 4096
_PAGEMAP_ENTRY: Final = 8

_ADDRESSES: Final = 1 << 64
_FLAGS: Final = "VmFlags:"
_POPULATION: Final = frozenset({"Rss:", "Swap:", "Shared_Hugetlb:", "Private_Hugetlb:"})
_PRESENT_OR_SWAPPED: Final = 0xC0
_OF_FILE: Final = 0x20
_MARK: Final = bytes(1 if top & _PRESENT_OR_SWAPPED else 0 for top in range(256))
_OWN_MARK: Final = bytes(mark if not top & _OF_FILE else 0 for top, mark in enumerate(_MARK))


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


def parse_maps(text: str, start: int = 0, end: int = _ADDRESSES) -> list[Mapping]:
    """The mappings that share an address with [start, end), ascending."""
    lines = text.splitlines()
    first = max(bisect_right(lines, start, key=_start_of) - 1, 0)
    last = bisect_left(lines, end, key=_start_of)
    mappings = map(_parse_line, lines[first:last])
    return [mapping for mapping in mappings if start < mapping.end]


def mapped_files(text: str) -> set[tuple[int, int]]:
    """(st_dev, inode) of all that is mapped."""
    files = {tuple(line.split(maxsplit=5)[3:5]) for line in text.splitlines()}
    return {(_device_of(device), int(inode)) for device, inode in files}


def _start_of(line: str) -> int:
    return int(line[: line.index("-")], 16)


def _device_of(word: str) -> int:
    major, minor = word.split(":")
    return os.makedev(int(major, 16), int(minor, 16))


def _parse_line(line: str) -> Mapping:
    bounds, permissions, offset, device, inode, *name = line.split(maxsplit=5)
    start, end = bounds.split("-")
    return Mapping(
        start=int(start, 16),
        end=int(end, 16),
        protection=(mmap.PROT_READ if permissions[0] == "r" else 0)
        | (mmap.PROT_WRITE if permissions[1] == "w" else 0)
        | (mmap.PROT_EXEC if permissions[2] == "x" else 0),
        shared=permissions[3] == "s",
        offset=int(offset, 16),
        device=_device_of(device),
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
    large_pages: bool  # it has transparent ones where it can


def parse_smaps(text: str, start: int = 0, end: int = _ADDRESSES) -> dict[int, MappingState]:
    """The states of the mappings that share an address with [start, end), by start address.

    The one before may be among them.
    """
    # Piece n has the head of mapping n behind its first line feed; its flags begin piece n + 1.
    pieces = f"\n{text}".split(_FLAGS)
    count = len(pieces) - 1
    first = max(bisect_right(pieces, start, hi=count, key=_start_of_piece) - 1, 0)
    last = bisect_left(pieces, end, hi=count, key=_start_of_piece)
    return {
        _start_of_piece(pieces[n]): _parse_state(pieces[n], pieces[n + 1])
        for n in range(first, last)
    }


def _start_of_piece(piece: str) -> int:
    start = piece.index("\n") + 1
    return int(piece[start : piece.index("-", start)], 16)


def _parse_state(piece: str, next_piece: str) -> MappingState:
    page_size, populated, large_pages = PAGE, False, False
    for line in piece.splitlines():
        key, _, rest = line.partition(" ")
        if key == "KernelPageSize:":
            page_size = int(rest.split()[0]) * 1024
        elif key in _POPULATION:
            populated |= rest.split()[0] != "0"
        elif key == "THPeligible:":
            large_pages = rest.strip() == "1"
    flags = next_piece.partition("\n")[0].split()
    return MappingState(frozenset(flags), page_size, populated, large_pages)


def present_runs(pagemap: bytes) -> Iterator[tuple[int, int]]:
    """(first page, number of pages) of each stretch that has contents, in memory or in swap.

    `pagemap` is the part of /proc/PID/pagemap for the pages in question, whole entries.
    """
    return _runs(pagemap, _MARK)


def own_runs(pagemap: bytes) -> Iterator[tuple[int, int]]:
    """The same of the pages that are not those of the file behind them: written through a private
    mapping."""
    return _runs(pagemap, _OWN_MARK)


def _runs(pagemap: bytes, mark: bytes) -> Iterator[tuple[int, int]]:
    marks = pagemap[_PAGEMAP_ENTRY - 1 :: _PAGEMAP_ENTRY].translate(mark)
    first = marks.find(1)
    while first >= 0:
        end = marks.find(0, first)
        end = len(marks) if end < 0 else end
        yield first, end - first
        first = marks.find(1, end)
