"""Private mappings of files: a copy of ours goes when nobody uses it any more."""

import mmap
import os
import struct
from pathlib import Path

import pytest

from kvmshim.client.client import Client
from kvmshim.client.maps import Mapping, parse_maps
from tests.unit.kvmshim.client.puppet import PROT_RW, SYS_MMAP, SYS_MUNMAP, Puppet
from tests.unit.kvmshim.client.sharing import PAGE, View, share

SYS_OPEN = 2
PAGES = 8
FILL = struct.pack("<Q", 21)


@pytest.fixture
def image(directory: Path) -> Path:
    file = directory / "image"
    file.write_bytes(FILL * (PAGES * PAGE // len(FILL)))
    return file


@pytest.fixture
def address(puppet: Puppet, image: Path) -> int:
    """Where the puppet maps the image, but for its first page."""
    Client.of_thread(puppet.pid).copy_out(puppet.scratch, bytes(image) + b"\0")
    fd = puppet.call(SYS_OPEN, puppet.scratch, os.O_RDONLY)
    size = (PAGES - 1) * PAGE
    return puppet.call(SYS_MMAP, 0, size, PROT_RW, mmap.MAP_PRIVATE, fd, PAGE)


def mapping_at(puppet: Puppet, address: int) -> Mapping:
    maps = Path(f"/proc/{puppet.pid}/maps").read_text()
    return next(m for m in parse_maps(maps, address, address + 1))


def share_something_else(puppet: Puppet) -> None:
    share(puppet, puppet.map(PAGE), PAGE)


def test_unused_copy_gives_way_to_the_file(puppet: Puppet, address: int, image: Path) -> None:
    before = mapping_at(puppet, address)
    ranges = share(puppet, address, before.size)
    assert mapping_at(puppet, address).shared
    del ranges
    share_something_else(puppet)
    assert mapping_at(puppet, address) == before
    puppet.poke(address, 5)
    assert (puppet.peek(address), puppet.peek(address + PAGE)) == (5, 21)
    assert image.read_bytes() == FILL * (PAGES * PAGE // len(FILL))


def test_copy_that_is_used_stays(puppet: Puppet, address: int) -> None:
    view = View(share(puppet, address, 4 * PAGE))
    share_something_else(puppet)
    view.write(address, 7)
    assert puppet.peek(address) == 7


@pytest.mark.parametrize("page", [0, 3])
def test_copy_in_which_something_was_written_stays(puppet: Puppet, address: int, page: int) -> None:
    view = View(share(puppet, address, 4 * PAGE))
    view.write(address + page * PAGE, 7)
    del view
    share_something_else(puppet)
    assert puppet.peek(address + page * PAGE) == 7


def test_what_the_client_wrote_before_stays(puppet: Puppet, address: int) -> None:
    puppet.poke(address + PAGE, 0)
    share(puppet, address, 4 * PAGE)
    share_something_else(puppet)
    assert [puppet.peek(address + page * PAGE) for page in range(4)] == [21, 0, 21, 21]


def test_what_is_left_of_a_copy_gives_way(puppet: Puppet, address: int) -> None:
    share(puppet, address, 4 * PAGE)
    puppet.call(SYS_MUNMAP, address, PAGE)
    share_something_else(puppet)
    left = mapping_at(puppet, address + PAGE)
    assert (left.shared, left.offset) == (False, 2 * PAGE)
    assert puppet.peek(address + PAGE) == 21


def test_holes_of_a_file_take_no_memory(puppet: Puppet, address: int, image: Path) -> None:
    with image.open("r+b") as file:
        file.truncate(PAGE)
        file.truncate(PAGES * PAGE)
        file.seek(3 * PAGE)
        file.write(FILL)
    ranges = share(puppet, address, (PAGES - 1) * PAGE)
    assert os.fstat(ranges[0].fd).st_blocks * 512 == PAGE
    assert View(ranges).read(address + 2 * PAGE) == 21
    del ranges
    share_something_else(puppet)
    assert not mapping_at(puppet, address).shared
    assert [puppet.peek(address + page * PAGE) for page in range(4)] == [0, 0, 21, 0]


def test_end_of_a_file_may_lie_in_the_mapping(puppet: Puppet, address: int, image: Path) -> None:
    os.truncate(image, 3 * PAGE + 8)
    ranges = share(puppet, address, 4 * PAGE)
    view = View(ranges)
    assert [view.read(address + at) for at in (0, 2 * PAGE, 2 * PAGE + 8)] == [21, 21, 0]


@pytest.mark.parametrize(("size", "stays"), [(4 * PAGE + 8, False), (4 * PAGE, True)])
def test_copy_of_a_file_that_was_cut_stays(
    puppet: Puppet, address: int, image: Path, size: int, *, stays: bool
) -> None:
    """The last page of what is mapped begins at 4 * PAGE."""
    os.truncate(image, 5 * PAGE if stays else size)
    share(puppet, address, 4 * PAGE)
    os.truncate(image, size)
    share_something_else(puppet)
    assert mapping_at(puppet, address).shared is stays
    assert puppet.peek(address) == 21


def test_copy_may_be_used_again(puppet: Puppet, address: int) -> None:
    share(puppet, address, 4 * PAGE)
    share_something_else(puppet)
    view = View(share(puppet, address, 4 * PAGE))
    view.write(address, 7)
    assert puppet.peek(address) == 7
