"""A mapping exchanged inside the fault of the thread that touches it first."""

import errno
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvmshim.client.client import Client
from kvmshim.client.maps import parse_maps
from kvmshim.client.run_page import Piece, read_pieces
from kvmshim.errors import KvmError
from tests.unit.kvmshim.client import puppet as puppets
from tests.unit.kvmshim.client.fuse_file import INODE, FuseFile
from tests.unit.kvmshim.client.privilege import needs_fuse
from tests.unit.kvmshim.client.puppet import PROT_READ, PROT_RW, SYS_MMAP, Puppet

PAGE = 4096
SIZE = 3 * PAGE
SYS_OPEN = 2


@pytest.fixture
def page() -> Iterator[int]:
    """What the server shows instead: 7 at the start, 9 in the last word."""
    fd = os.memfd_create("kvm_run")
    os.pwrite(fd, (7).to_bytes(8, "little") + bytes(SIZE - 16) + (9).to_bytes(8, "little"), 0)
    yield fd
    os.close(fd)


def pieces(fd: int) -> list[Piece]:
    """The file as one piece."""
    return [Piece(0, SIZE, fd, 0)]


def word(fd: int, offset: int) -> int:
    return int.from_bytes(os.pread(fd, 8, offset), "little")


def map_file(puppet: Puppet, path: Path, protection: int = PROT_RW) -> int:
    Client.of_thread(puppet.pid).copy_out(puppet.scratch, bytes(path) + b"\0")
    fd = puppet.call(SYS_OPEN, puppet.scratch, os.O_RDWR)
    assert fd >= 0
    return puppet.call(SYS_MMAP, 0, SIZE, protection, mmap.MAP_SHARED, fd, 0)


def test_every_mapping_of_an_ordinary_file_is_exchanged(
    puppet: Puppet, client: Client, directory: Path, page: int
) -> None:
    file = directory / "stand-in"
    file.write_bytes(bytes(SIZE))
    first, second = map_file(puppet, file), map_file(puppet, file, PROT_READ)
    status = file.stat()
    tid = puppet.enter_request()
    count = client.replace_mapping_of(
        tid, status.st_dev, status.st_ino, pieces(page), puppet.release
    )
    assert count == 2
    assert puppet.result() == 8
    assert [puppet.peek(first), puppet.peek(second + SIZE - 8)] == [7, 9]
    puppet.poke(first + PAGE, 5)
    assert word(page, PAGE) == 5
    names = [m.name for m in parse_maps(Path(f"/proc/{puppet.pid}/maps").read_text())]
    assert str(file) not in names
    assert file.read_bytes() == bytes(SIZE)


def test_pieces_of_a_mapping_are_of_several_files(
    puppet: Puppet, client: Client, directory: Path, page: int
) -> None:
    other = os.memfd_create("other")
    os.pwrite(other, bytes(PAGE) + (5).to_bytes(8, "little") + bytes(PAGE - 8), 0)
    parts = [Piece(0, PAGE, page, 0), Piece(PAGE, PAGE, other, PAGE)]
    file = directory / "stand-in"
    file.write_bytes(bytes(SIZE))
    mapped, status = map_file(puppet, file), file.stat()
    tid = puppet.enter_request()
    client.replace_mapping_of(tid, status.st_dev, status.st_ino, parts, puppet.release)
    assert puppet.result() == 8
    assert [puppet.peek(mapped + at) for at in (0, PAGE, 2 * PAGE)] == [7, 5, 0]
    puppet.poke(mapped + PAGE, 6)
    assert word(other, PAGE) == 6
    assert [puppet.peek(mapped), word(page, PAGE)] == [7, 0]
    os.close(other)


def test_pieces_are_read_as_one_file(page: int) -> None:
    parts = [Piece(PAGE, PAGE, page, 2 * PAGE), Piece(2 * PAGE, PAGE, page, 0)]
    assert read_pieces(parts, 2 * PAGE - 8, 2 * PAGE + 8) == (9).to_bytes(8, "little") + (
        7
    ).to_bytes(8, "little")
    assert read_pieces(parts, 0, 8) == bytes(8)


@pytest.fixture
def served(directory: Path, page: int) -> Iterator[FuseFile]:
    """A FUSE file whose first reader gets `page` mapped instead."""
    path = directory / "fuse"
    path.mkdir(exist_ok=True)

    def on_read(tid: int, device: int, answer: Callable[[], None]) -> None:
        Client.of_thread(tid).replace_mapping_of(tid, device, INODE, pieces(page), answer)

    with FuseFile(path, page, on_read) as file:
        yield file


@needs_fuse
def test_first_load_of_a_fuse_page_sees_the_servers_memory(
    puppet: Puppet, served: FuseFile, page: int
) -> None:
    address = map_file(puppet, served.path)
    assert puppet.peek(address) == 7
    puppet.poke(address + 8, 5)
    assert word(page, 8) == 5
    assert puppet.peek(address + SIZE - 8) == 9


@needs_fuse
def test_first_store_to_a_fuse_page_is_not_lost(
    puppet: Puppet, served: FuseFile, page: int
) -> None:
    address = map_file(puppet, served.path)
    puppet.poke(address + 16, 6)
    assert word(page, 16) == 6


@needs_fuse
def test_threads_that_touch_the_page_at_once_lose_nothing(
    puppet: Puppet, served: FuseFile, page: int
) -> None:
    address = map_file(puppet, served.path)
    counters = [puppet.ask("count", address + 64 * at) for at in range(1, 5)]
    counted = [puppet.ask("stop", tid) for tid in counters]
    assert min(counted) >= 0
    assert [word(page, 64 * at) for at in range(1, 5)] == counted


@needs_fuse
def test_system_call_that_touches_the_page_goes_on(
    puppet: Puppet, served: FuseFile, page: int
) -> None:
    address = map_file(puppet, served.path)
    assert puppet.call(63, address) == 0  # uname(2) writes there
    assert os.pread(page, 5, 0) == b"Linux"


@needs_fuse
def test_static_program_gets_the_page(static_program: Path, served: FuseFile, page: int) -> None:
    with puppets.running(static_program) as puppet:
        address = map_file(puppet, served.path)
        puppet.poke(address, 3)
    assert word(page, 0) == 3


@needs_fuse
def test_client_killed_in_the_fault_is_esrch(directory: Path, program: Path, page: int) -> None:
    path = directory / "fuse-killed"
    path.mkdir()
    caught: list[KvmError] = []
    over = threading.Event()

    with puppets.running(program) as puppet:

        def on_read(tid: int, device: int, answer: Callable[[], None]) -> None:
            def kill_and_answer() -> None:
                puppet.kill()
                answer()

            with pytest.raises(KvmError) as info:
                Client.of_thread(tid).replace_mapping_of(
                    tid, device, INODE, pieces(page), kill_and_answer
                )
            caught.append(info.value)
            over.set()

        with FuseFile(path, page, on_read) as file:
            address = map_file(puppet, file.path)
            with pytest.raises(EOFError):
                puppet.peek(address)
            over.wait(puppets.DEADLINE_SECONDS)
    assert [error.errno for error in caught] == [errno.ESRCH]
