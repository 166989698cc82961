"""Guest memory made visible to both sides while the client runs."""

import errno
import mmap
import os
import struct
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from kvmshim.client.caller import StoppedCaller
from kvmshim.client.client import Client
from kvmshim.client.mapped import MappedRanges
from kvmshim.client.maps import parse_maps, parse_smaps
from kvmshim.client.ram_file import LARGE_PAGE, RamFiles
from kvmshim.client.served import SERVED
from kvmshim.client.shared import SharedFiles
from kvmshim.client.threads import nobody
from kvmshim.device.mount import mount_large_pages
from kvmshim.errors import KvmError
from tests.unit.kvmshim.client import puppet as puppets
from tests.unit.kvmshim.client.privilege import needs_root
from tests.unit.kvmshim.client.puppet import (
    FIXED,
    PROT_NONE,
    PROT_READ,
    PROT_RW,
    SHARED,
    SYS_MADVISE,
    SYS_MMAP,
    SYS_MPROTECT,
    SYS_MUNMAP,
    SYS_READ,
    Puppet,
)
from tests.unit.kvmshim.client.sharing import PAGE, View, exchange, pipe, share

MIB = 1 << 20
SYS_WRITE = 1
SYS_OPEN = 2
SYS_FTRUNCATE = 77
SYS_MLOCK = 149
SYS_MEMFD_CREATE = 319


def refusal(puppet: Puppet, address: int, size: int) -> int:
    """The errno of a `share` that fails; the client goes on."""
    tid = puppet.enter_request()
    with (
        Client.of_thread(tid).stop_caller(tid, puppet.release) as caller,
        pytest.raises(KvmError) as caught,
    ):
        caller.share(address, size, in_flight=nobody)
    assert puppet.result() == -errno.EIO
    return caught.value.errno


def test_private_memory_is_shared_with_its_contents(puppet: Puppet) -> None:
    address = puppet.map(MIB)
    puppet.poke(address + 5 * PAGE, 77)
    view = View(share(puppet, address, MIB))
    assert view.read(address + 5 * PAGE) == 77
    assert puppet.peek(address + 5 * PAGE) == 77
    assert exchange(puppet, view, address) == (11, 12)


def test_untouched_memory_takes_no_memory(puppet: Puppet) -> None:
    ranges = share(puppet, puppet.map(64 * MIB), 64 * MIB)
    assert os.fstat(ranges[0].fd).st_blocks == 0
    assert sum(part.size for part in ranges) == 64 * MIB


def test_only_the_range_asked_for_is_exchanged(puppet: Puppet) -> None:
    address = puppet.map(8 * PAGE)
    for page in range(8):
        puppet.poke(address + page * PAGE, page)
    share(puppet, address + 2 * PAGE, 3 * PAGE)
    maps = parse_maps(Path(f"/proc/{puppet.pid}/maps").read_text())
    shared = [(m.start, m.size) for m in maps if "kvmshim-ram" in m.name]
    assert shared == [(address + 2 * PAGE, 3 * PAGE)]
    assert [puppet.peek(address + page * PAGE) for page in range(8)] == list(range(8))


def test_second_share_stops_nobody(puppet: Puppet, client: Client) -> None:
    address = puppet.map(MIB)
    assert client.shared(address, MIB) is None
    first = share(puppet, address, MIB)
    again = client.shared(address + PAGE, MIB - PAGE)
    assert again is not None
    assert again[0].backing is first[0].backing
    assert (again[0].offset, again[0].address) == (PAGE, address + PAGE)


@needs_root
def test_range_over_several_mappings_is_shared_as_one(puppet: Puppet) -> None:
    address = puppet.map(4 * PAGE)
    puppet.call(SYS_MMAP, address + PAGE, PAGE, PROT_RW, SHARED | FIXED, -1, 0)
    puppet.call(SYS_MPROTECT, address + 3 * PAGE, PAGE, PROT_READ)
    for page in range(3):
        puppet.poke(address + page * PAGE, 50 + page)
    ranges = share(puppet, address, 4 * PAGE)
    assert [part.address for part in ranges] == [address + page * PAGE for page in range(4)]
    assert [part.writable for part in ranges] == [True, True, True, False]
    view = View(ranges)
    assert [view.read(address + page * PAGE) for page in range(4)] == [50, 51, 52, 0]


@needs_root
def test_ranges_are_mapped_here_side_by_side(puppet: Puppet) -> None:
    address = puppet.map(4 * PAGE)
    puppet.call(SYS_MMAP, address + PAGE, PAGE, PROT_RW, SHARED | FIXED, -1, 0)
    for page in range(4):
        puppet.poke(address + page * PAGE, 60 + page)
    mapped = MappedRanges(share(puppet, address, 4 * PAGE))
    own = Path("/proc/self/mem").open("r+b", buffering=0)  # noqa: SIM115
    with own:
        words = [os.pread(own.fileno(), 8, mapped.address + page * PAGE) for page in range(4)]
        os.pwrite(own.fileno(), struct.pack("<Q", 99), mapped.address + 3 * PAGE)
    assert [int.from_bytes(word, "little") for word in words] == [60, 61, 62, 63]
    assert puppet.peek(address + 3 * PAGE) == 99
    mapped.close()
    mapped.close()


@pytest.mark.parametrize("first", [0, 1, 3])
def test_hole_is_efault_and_changes_nothing(puppet: Puppet, first: int) -> None:
    address = puppet.map(4 * PAGE)
    puppet.call(SYS_MUNMAP, address + first * PAGE, PAGE)
    maps = Path(f"/proc/{puppet.pid}/maps").read_text()
    assert refusal(puppet, address, 4 * PAGE) == errno.EFAULT
    assert Path(f"/proc/{puppet.pid}/maps").read_text() == maps


def test_vdso_is_einval(puppet: Puppet) -> None:
    maps = parse_maps(Path(f"/proc/{puppet.pid}/maps").read_text())
    vdso = next(m for m in maps if m.name == "[vdso]")
    assert refusal(puppet, vdso.start, PAGE) == errno.EINVAL


def test_file_of_ours_is_einval_as_long_as_it_is_served(puppet: Puppet) -> None:
    maps = parse_maps(Path(f"/proc/{puppet.pid}/maps").read_text())
    program = next(m for m in maps if m.name.endswith("/puppet"))
    SERVED.add(program.device)
    try:
        assert refusal(puppet, program.start, PAGE) == errno.EINVAL
    finally:
        SERVED.remove(program.device)
    assert share(puppet, program.start, PAGE)


def test_adopted_memory_may_have_a_number_that_was_served(puppet: Puppet, client: Client) -> None:
    address = puppet.map(PAGE)
    puppet.poke(address, 5)
    [part] = share(puppet, address, PAGE)
    device = os.fstat(part.fd).st_dev
    SERVED.add(device)
    try:
        assert client.shared(address, PAGE)
    finally:
        SERVED.remove(device)


def test_read_only_memory_stays_read_only(puppet: Puppet, client: Client) -> None:
    address = puppet.map(2 * PAGE)
    puppet.poke(address, 5)
    puppet.call(SYS_MPROTECT, address, 2 * PAGE, PROT_READ)
    ranges = share(puppet, address, 2 * PAGE)
    assert not ranges[0].writable
    assert puppet.peek(address) == 5
    with pytest.raises(KvmError):
        client.copy_out(address, b"x")


def test_inaccessible_memory_keeps_its_contents(puppet: Puppet) -> None:
    address = puppet.map(2 * PAGE)
    puppet.poke(address + PAGE, 5)
    puppet.call(SYS_MPROTECT, address, 2 * PAGE, PROT_NONE)
    view = View(share(puppet, address, 2 * PAGE))
    assert view.read(address + PAGE) == 5
    puppet.call(SYS_MPROTECT, address, 2 * PAGE, PROT_RW)
    assert puppet.peek(address + PAGE) == 5
    puppet.poke(address, 6)
    assert view.read(address) == 6


def test_private_mapping_of_a_file_is_shared_but_the_file_is_not(
    puppet: Puppet, directory: Path
) -> None:
    file = directory / "image"
    file.write_bytes(struct.pack("<Q", 21) * (2 * PAGE // 8))
    Client.of_thread(puppet.pid).copy_out(puppet.scratch, bytes(file) + b"\0")
    fd = puppet.call(SYS_OPEN, puppet.scratch, os.O_RDONLY)
    address = puppet.call(SYS_MMAP, 0, 2 * PAGE, PROT_RW, mmap.MAP_PRIVATE, fd, 0)
    puppet.poke(address, 22)
    view = View(share(puppet, address, 2 * PAGE))
    assert [view.read(address + at) for at in (0, 8, PAGE)] == [22, 21, 21]
    assert exchange(puppet, view, address) == (11, 12)
    assert file.read_bytes() == struct.pack("<Q", 21) * (2 * PAGE // 8)


def test_data_of_the_program_can_be_guest_memory(puppet: Puppet) -> None:
    view = View(share(puppet, puppet.scratch, 2 * PAGE))
    assert exchange(puppet, view, puppet.scratch) == (11, 12)


def test_advice_is_kept(puppet: Puppet) -> None:
    address = puppet.map(4 * PAGE)
    puppet.call(SYS_MADVISE, address, 4 * PAGE, mmap.MADV_DONTFORK)
    puppet.call(SYS_MADVISE, address, 4 * PAGE, mmap.MADV_DONTDUMP)
    share(puppet, address, 4 * PAGE)
    flags = parse_smaps(Path(f"/proc/{puppet.pid}/smaps").read_text())[address].flags
    assert {"dc", "dd"} <= flags


@pytest.fixture
def large_pages() -> Iterator[None]:
    Client.memory_from(RamFiles(mount_large_pages))
    yield
    Client.memory_from(RamFiles())


@needs_root
@pytest.mark.usefixtures("large_pages")
def test_large_pages_stay_large(puppet: Puppet) -> None:
    address = puppet.map(4 * LARGE_PAGE)
    puppet.call(SYS_MADVISE, address, 4 * LARGE_PAGE, mmap.MADV_HUGEPAGE)
    if not parse_smaps(Path(f"/proc/{puppet.pid}/smaps").read_text())[address].large_pages:
        pytest.skip("this system has no large pages")
    puppet.poke(address + LARGE_PAGE, 77)
    ranges = share(puppet, address, 4 * LARGE_PAGE)
    assert puppet.peek(address + LARGE_PAGE) == 77
    assert exchange(puppet, View(ranges), address) == (11, 12)
    mapped = MappedRanges(ranges)
    places = [ranges[0].offset, address, mapped.address]
    assert len({place % LARGE_PAGE for place in places}) == 1
    assert not os.readlink(f"/proc/self/fd/{ranges[0].fd}").startswith("/memfd:")
    mapped.close()


@needs_root
@pytest.mark.usefixtures("large_pages")
def test_small_pages_stay_small(puppet: Puppet) -> None:
    address = puppet.map(4 * LARGE_PAGE)
    puppet.call(SYS_MADVISE, address, 4 * LARGE_PAGE, mmap.MADV_NOHUGEPAGE)
    ranges = share(puppet, address, 4 * LARGE_PAGE)
    assert os.readlink(f"/proc/self/fd/{ranges[0].fd}").startswith("/memfd:")


def test_locked_memory_stays_locked(puppet: Puppet) -> None:
    address = puppet.map(4 * PAGE)
    assert puppet.call(SYS_MLOCK, address, 4 * PAGE) == 0
    share(puppet, address, 4 * PAGE)
    flags = parse_smaps(Path(f"/proc/{puppet.pid}/smaps").read_text())[address].flags
    assert "lo" in flags


@needs_root
def test_shared_anonymous_memory_is_used_as_it_is(puppet: Puppet, client: Client) -> None:
    address = puppet.map(2 * PAGE, flags=SHARED)
    ranges = client.shared(address, 2 * PAGE)
    assert ranges is not None
    assert exchange(puppet, View(ranges), address) == (11, 12)


def client_memfd(puppet: Puppet, size: int) -> tuple[int, int]:
    """(fd, address) of a mapping at offset PAGE."""
    Client.of_thread(puppet.pid).copy_out(puppet.scratch, b"vmm\0")
    fd = puppet.call(SYS_MEMFD_CREATE, puppet.scratch, 0)
    puppet.call(SYS_FTRUNCATE, fd, size + PAGE)
    return fd, puppet.call(SYS_MMAP, 0, size, PROT_RW, mmap.MAP_SHARED, fd, PAGE)


def test_memfd_of_the_client_is_used_as_it_is(puppet: Puppet, client: Client) -> None:
    fd, address = client_memfd(puppet, 4 * PAGE)
    ranges = client.shared(address + PAGE, 2 * PAGE)
    assert ranges is not None
    assert ranges[0].offset == 2 * PAGE
    assert os.fstat(ranges[0].fd).st_ino == os.stat(f"/proc/{puppet.pid}/fd/{fd}").st_ino
    assert exchange(puppet, View(ranges), address + PAGE) == (11, 12)


def test_memfd_is_found_among_the_fds_where_map_files_is_forbidden(
    puppet: Puppet, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedFiles, "_open_map_file", lambda *_: None)
    _, address = client_memfd(puppet, 4 * PAGE)
    ranges = client.shared(address, 4 * PAGE)
    assert ranges is not None
    assert exchange(puppet, View(ranges), address) == (11, 12)


def test_shared_memory_that_cannot_be_reached_is_adopted(
    puppet: Puppet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedFiles, "_open_map_file", lambda *_: None)
    address = puppet.map(2 * PAGE, flags=SHARED)
    puppet.poke(address + 8, 3)
    view = View(share(puppet, address, 2 * PAGE))
    assert view.read(address + 8) == 3
    assert exchange(puppet, view, address) == (11, 12)


@needs_root
def test_unprivileged_server_shares_with_its_own_client(program: Path, directory: Path) -> None:
    status = run_as_nobody(program, directory)
    assert status == 0, (directory / "said").read_text()


def run_as_nobody(program: Path, directory: Path) -> int:
    """The wait status of a server without privileges, in a process of its own."""
    said = directory / "said"
    said.touch()
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(said, os.O_WRONLY), 2)
        serve_as_nobody(program)
    return os.waitpid(pid, 0)[1]


def serve_as_nobody(program: Path) -> None:
    """Ends the process."""
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    try:
        with puppets.running(program) as puppet:
            address = puppet.map(4 * PAGE)
            puppet.poke(address + 8, 41)
            view = View(share(puppet, address, 4 * PAGE))
            assert view.read(address + 8) == 41
            assert exchange(puppet, view, address) == (11, 12)
            again = Client.of_thread(puppet.pid).shared(address, 4 * PAGE)
            assert again is not None
    except BaseException as error:  # the parent sees only the status
        os.write(2, repr(error).encode())
        os._exit(1)
    os._exit(0)


def test_counter_loses_nothing_while_its_memory_is_exchanged(puppet: Puppet) -> None:
    address = puppet.map(64 * MIB)
    for page in range(0, 64 * MIB // PAGE, 64):
        puppet.poke(address + page * PAGE + 8, page)
    counter = puppet.ask("count", address)
    view = View(share(puppet, address, 64 * MIB))
    counted = puppet.ask("stop", counter)
    assert counted > 0
    assert view.read(address) == counted
    pages = range(0, 64 * MIB // PAGE, 64)
    assert [view.read(address + page * PAGE + 8) for page in pages] == list(pages)


def test_threads_in_flight_are_left_alone(puppet: Puppet) -> None:
    ours, theirs = pipe(puppet)
    other = puppet.start(SYS_READ, ours, puppet.scratch + 64, 1)
    asked: list[str] = []

    def in_flight() -> Collection[int]:
        asked.append(Path(f"/proc/{other}/status").read_text())
        return {other}

    address = puppet.map(PAGE)
    tid = puppet.enter_request()
    with Client.of_thread(tid).stop_caller(tid, puppet.release) as caller:
        caller.share(address, PAGE, in_flight=in_flight)
        status = Path(f"/proc/{other}/status").read_text()
        caller.finish(0)
    assert puppet.result() == 0
    puppet.call(SYS_WRITE, theirs, puppet.scratch, 1)
    assert puppet.join(other) == 1
    assert all("TracerPid:\t0" in text for text in [*asked, status])


def test_many_busy_threads_are_stopped_and_go_on(puppet: Puppet) -> None:
    counters = [puppet.ask("count", puppet.map(PAGE)) for _ in range(8)]
    share(puppet, puppet.map(PAGE), PAGE)
    assert all(puppet.ask("stop", tid) > 0 for tid in counters)


def test_fork_before_keeps_its_own_copy(puppet: Puppet) -> None:
    address = puppet.map(2 * PAGE)
    puppet.poke(address, 1)
    child = puppet.ask("child")
    assert puppet.forked.receive() == child
    share(puppet, address, 2 * PAGE)
    puppet.poke(address, 2)
    assert puppet.forked.peek(address) == 1


def test_child_forked_afterwards_can_share_on_its_own(puppet: Puppet) -> None:
    address = puppet.map(2 * PAGE)
    view = View(share(puppet, address, 2 * PAGE))
    child = puppet.ask("child")
    assert puppet.forked.receive() == child
    ranges = Client.of_thread(child).shared(address, 2 * PAGE)
    assert ranges is not None
    puppet.forked.poke(address, 9)
    assert (View(ranges).read(address), view.read(address)) == (9, 9)


def test_copies_of_ours_meanwhile_are_not_lost(puppet: Puppet) -> None:
    address = puppet.map(16 * MIB)
    client = Client.of_thread(puppet.pid)
    written = 0
    done = threading.Event()

    def keep_writing() -> None:
        nonlocal written
        while not done.is_set():
            written += 1
            client.copy_out(address + PAGE, written.to_bytes(8, "little"))

    writer = threading.Thread(target=keep_writing)
    writer.start()
    view = View(share(puppet, address, 16 * MIB))
    done.set()
    writer.join()
    assert view.read(address + PAGE) == written


def test_memory_is_let_go_when_the_client_unmapped_it(puppet: Puppet, client: Client) -> None:
    address = puppet.map(PAGE)
    descriptor = share(puppet, address, PAGE)[0].fd
    puppet.call(SYS_MUNMAP, address, PAGE)
    client.trim()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_caller_left_without_a_result_gets_eio(puppet: Puppet, client: Client) -> None:
    tid = puppet.enter_request()
    with client.stop_caller(tid, puppet.release) as caller:
        assert isinstance(caller, StoppedCaller)
    assert puppet.result() == -errno.EIO
