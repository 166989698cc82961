"""What /proc says about mappings, as records."""

import mmap
import os

import pytest

from kvmshim.client.maps import (
    Mapping,
    MappingState,
    covers,
    mapped_files,
    parse_maps,
    parse_smaps,
    present_runs,
)

TEXT = """\
00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/a name (deleted)
7f0000000000-7f0040000000 rw-s 00200000 00:01 2048 /memfd:ram (deleted)
7f0040000000-7f0040001000 ---p 00000000 00:00 0
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""


def anonymous(start: int, end: int) -> Mapping:
    return Mapping(start, end, mmap.PROT_READ, False, 0, 0, 0, "")


def test_line_of_a_file_mapping_is_read() -> None:
    assert parse_maps(TEXT)[0] == Mapping(
        start=0x400000,
        end=0x452000,
        protection=mmap.PROT_READ | mmap.PROT_EXEC,
        shared=False,
        offset=0x1000,
        device=os.makedev(8, 2),
        inode=173521,
        name="/usr/bin/a name (deleted)",
    )


def test_shared_and_inaccessible_mappings_are_told_apart() -> None:
    _, memfd, guard, _ = parse_maps(TEXT)
    assert (memfd.shared, memfd.writable) == (True, True)
    assert (guard.shared, guard.protection, guard.name) == (False, 0, "")


def test_only_what_overlaps_a_range_is_read() -> None:
    program, memfd, guard, _ = parse_maps(TEXT)
    assert parse_maps(TEXT, 0x451FFF, 0x7F0000000000) == [program]
    assert parse_maps(TEXT, 0x452000, 0x7F0000000001) == [memfd]
    assert parse_maps(TEXT, memfd.end - 1, memfd.end + 1) == [memfd, guard]
    assert parse_maps(TEXT, 0x452000, 0x453000) == []
    assert parse_maps(TEXT, 0, 0x400000) == []


def test_files_that_are_mapped() -> None:
    assert mapped_files(TEXT) == {
        (os.makedev(8, 2), 173521),
        (os.makedev(0, 1), 2048),
        (os.makedev(0, 0), 0),
    }


def test_clipping_moves_the_file_offset() -> None:
    part = parse_maps(TEXT)[1].clipped(0x7F0000003000, 0x7F0000005000)
    assert (part.start, part.size, part.offset) == (0x7F0000003000, 0x2000, 0x203000)


def test_clipping_outside_the_ends_changes_nothing() -> None:
    whole = parse_maps(TEXT)[1]
    assert whole.clipped(0, 1 << 47) == whole


def test_adjacent_mappings_cover_a_range() -> None:
    assert covers([anonymous(0x1000, 0x2000), anonymous(0x2000, 0x4000)], 0x1000, 0x4000)


def test_hole_is_not_covered() -> None:
    assert not covers([anonymous(0x1000, 0x2000), anonymous(0x3000, 0x4000)], 0x1000, 0x4000)


def test_range_longer_than_its_mapping_is_not_covered() -> None:
    assert not covers([anonymous(0x1000, 0x2000)], 0x1000, 0x2001)
    assert not covers([anonymous(0x1000, 0x2000)], 0xFFF, 0x2000)
    assert not covers([], 0x1000, 0x2000)


SMAPS = """\
7f00-8f00 rw-p 00000000 00:00 0\x20
Rss:                   0 kB
KernelPageSize:     2048 kB
VmFlags: rd wr mr mw me dc\x20
9000-a000 r--p 00000000 00:00 0    [heap]
KernelPageSize:        4 kB
Rss:                   8 kB
THPeligible:           1
VmFlags: rd
b000-c000 r--p 00000000 00:00 0
Swap:                  0 kB
VmFlags: rd
"""


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [(0x7F00, 0x7F01, [0x7F00]), (0x9800, 0xB001, [0x9000, 0xB000]), (0xB000, 1 << 47, [0xB000])],
)
def test_smaps_of_a_range(start: int, end: int, wanted: list[int]) -> None:
    assert list(parse_smaps(SMAPS, start, end)) == wanted


def test_smaps_gives_flags_and_page_size_by_address() -> None:
    assert parse_smaps(SMAPS) == {
        0x7F00: MappingState(
            frozenset(["rd", "wr", "mr", "mw", "me", "dc"]),
            2 << 20,
            populated=False,
            large_pages=False,
        ),
        0x9000: MappingState(frozenset(["rd"]), 4096, populated=True, large_pages=True),
        0xB000: MappingState(frozenset(["rd"]), 4096, populated=False, large_pages=False),
    }


def test_pagemap_runs_are_the_present_and_swapped_pages() -> None:
    present, swapped, soft_dirty = 1 << 63, 1 << 62, 1 << 55
    entries = [0, present | 5, swapped, soft_dirty, 0, present]
    pagemap = b"".join(entry.to_bytes(8, "little") for entry in entries)
    assert list(present_runs(pagemap)) == [(1, 2), (5, 1)]


def test_empty_pagemap_has_no_runs() -> None:
    assert list(present_runs(b"")) == []
    assert list(present_runs(bytes(8))) == []
