"""Files of VMs and vCPUs: made by an ioctl, given to the caller, gone with their last use."""

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.door.doors import StandIn, client_argv, environment, run_client, served
from tests.door.numbers import NATIVE_SLOT, OLD_KERNEL
from tests.leftovers import listed, memfds_of, mounts_below, wait_until

pytestmark = pytest.mark.slow

MAKE = """
system = os.open(path, os.O_RDWR)
vm = fcntl.ioctl(system, Number.NEW_VM)
vcpu = fcntl.ioctl(vm, Number.NEW_VCPU, 3)
"""

NATIVE_C = """
#define FUSE_USE_VERSION 312
#include <stddef.h>
#include <sys/uio.h>
#include <unistd.h>
#include <fuse_lowlevel.h>
typedef void slot(fuse_req_t, fuse_ino_t, unsigned, void *, struct fuse_file_info *, unsigned,
                  const void *, size_t, size_t);
void native_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg,
                  struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size,
                  size_t out_size)
{
    if (cmd == 0xAEF8)
        fuse_reply_ioctl(req, 77, NULL, 0);
    else
        ((slot *)fuse_req_userdata(req))(req, ino, cmd, arg, fi, flags, in, in_size, out_size);
}
ssize_t native_read(int fd, void *buffer, size_t size, void *userdata)
{
    return read(fd, buffer, size);
}
ssize_t native_writev(int fd, const struct iovec *parts, int count, void *userdata)
{
    return writev(fd, parts, count);
}
"""


def test_new_files_stand_for_their_objects(door: StandIn) -> None:
    facts = run_client(
        MAKE
        + """
tell(kinds=[fcntl.ioctl(fd, Number.KIND) for fd in (system, vm, vcpu)],
     links=[os.readlink(f"/proc/self/fd/{fd}") for fd in (vm, vcpu)],
     cloexec=[fcntl.fcntl(fd, fcntl.F_GETFD) for fd in (vm, vcpu)],
     echo=fcntl.ioctl(vcpu, Number.ECHO, 5))
""",
        door.path,
    )
    assert facts == {
        "kinds": [0, 1, 2],
        "links": ["/kvm-vm", "/kvm-vcpu:3"],
        "cloexec": [1, 1],
        "echo": 5,
    }


def test_descriptor_is_the_lowest_free_one(door: StandIn) -> None:
    facts = run_client(MAKE + "tell(fds=[system, vm, vcpu])", door.path)
    first = facts["fds"][0]
    assert facts["fds"] == [first, first + 1, first + 2]


def test_full_descriptor_table_is_emfile_and_the_object_is_let_go(door: StandIn) -> None:
    facts = run_client(
        """
import resource
system = os.open(path, os.O_RDWR)
resource.setrlimit(resource.RLIMIT_NOFILE, (system + 1, system + 1))
error = errno_of(fcntl.ioctl, system, Number.NEW_VM)
while not (released := fcntl.ioctl(system, Number.RELEASED)):
    os.sched_yield()
tell(error=error, released=released)
""",
        door.path,
    )
    assert facts == {"error": errno.EMFILE, "released": 1}


def test_object_is_let_go_after_the_last_of_file_duplicates_and_mappings(door: StandIn) -> None:
    facts = run_client(
        MAKE
        + """
pages = mmap.mmap(vcpu, RUN_SIZE)
twin = os.dup(vm)
seen = []
os.close(vm); os.close(vcpu)
seen.append(fcntl.ioctl(system, Number.RELEASED))
os.close(twin)
while fcntl.ioctl(system, Number.RELEASED) < 1:
    os.sched_yield()
seen.append(fcntl.ioctl(system, Number.RELEASED))
pages.close()
while fcntl.ioctl(system, Number.RELEASED) < 2:
    os.sched_yield()
tell(seen=seen)
""",
        door.path,
    )
    assert facts == {"seen": [0, 1]}


def test_mapping_shows_the_run_pages_and_writes_reach_them(door: StandIn) -> None:
    facts = run_client(
        MAKE
        + """
first = mmap.mmap(vcpu, RUN_SIZE)
mark = bytes(first[:len(RUN_MARK)]) == RUN_MARK
first[RUN_SIZE - 1] = 7
second = mmap.mmap(vcpu, RUN_SIZE)
tell(mark=mark, again=bytes(second[:len(RUN_MARK)]) == RUN_MARK, last=second[RUN_SIZE - 1])
""",
        door.path,
    )
    assert facts == {"mark": True, "again": True, "last": 7}


def test_first_touch_may_be_a_write(door: StandIn) -> None:
    facts = run_client(
        MAKE
        + """
first, second = mmap.mmap(vcpu, RUN_SIZE), mmap.mmap(vcpu, RUN_SIZE)
first[100] = 9
tell(seen=second[100], mark=bytes(second[:len(RUN_MARK)]) == RUN_MARK)
""",
        door.path,
    )
    assert facts == {"seen": 9, "mark": True}


def test_mapping_works_after_the_descriptor_is_closed(door: StandIn) -> None:
    facts = run_client(
        MAKE
        + """
pages = mmap.mmap(vcpu, RUN_SIZE)
os.close(vcpu)
tell(mark=bytes(pages[:len(RUN_MARK)]) == RUN_MARK)
""",
        door.path,
    )
    assert facts == {"mark": True}


@pytest.mark.parametrize("file", ["vm", "vcpu"])
def test_file_cannot_be_opened_a_second_time(door: StandIn, file: str) -> None:
    facts = run_client(
        MAKE + f"tell(e=errno_of(os.open, f'/proc/self/fd/{{{file}}}', os.O_RDWR))", door.path
    )
    assert facts == {"e": errno.ENXIO}


def test_two_threads_make_vms_at_the_same_time(door: StandIn) -> None:
    facts = run_client(
        """
system = os.open(path, os.O_RDWR)
kinds = []
def make():
    for _ in range(10):
        vm = fcntl.ioctl(system, Number.NEW_VM)
        kinds.append(fcntl.ioctl(vm, Number.KIND))
        os.close(vm)
threads = [threading.Thread(target=make) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
tell(kinds=kinds)
""",
        door.path,
    )
    assert facts == {"kinds": [1] * 40}


def test_server_keeps_nothing_of_a_client_that_was_killed(door: StandIn) -> None:
    sessions = fuse_connections(door)
    with subprocess.Popen(
        client_argv(MAKE + "os.kill(os.getpid(), signal.SIGKILL)", door.path), env=environment()
    ) as client:
        client.wait()
    wait_until(lambda: fuse_connections(door) == sessions and not memfds_of(door.process.pid))


def fuse_connections(door: StandIn) -> int:
    files = Path(f"/proc/{door.process.pid}/fd")
    return sum(is_fuse(files / name) for name in listed(str(files)))


def is_fuse(descriptor: Path) -> bool:
    try:
        return os.readlink(descriptor) == "/dev/fuse"
    except FileNotFoundError:
        return False


def test_kernel_without_fsopen_serves_files_too(folder: Path) -> None:
    others = mounts_below(Path(tempfile.gettempdir()))
    with served(folder / "kvm", **{OLD_KERNEL: "1"}) as door:
        facts = run_client(
            MAKE
            + """
tell(kinds=[fcntl.ioctl(fd, Number.KIND) for fd in (system, vm, vcpu)],
     mark=bytes(mmap.mmap(vcpu, RUN_SIZE)[:len(RUN_MARK)]) == RUN_MARK)
""",
            door.path,
        )
        visible = mounts_below(Path(tempfile.gettempdir()))
    assert facts == {"kinds": [0, 1, 2], "mark": True}
    assert set(visible) - set(others) == {str(door.path)}


@pytest.fixture
def door_with_native_slot(folder: Path, tmp_path: Path) -> Iterator[StandIn]:
    source, library = tmp_path / "native.c", tmp_path / "native.so"
    source.write_text(NATIVE_C)
    include = "-I/usr/include/fuse3"
    subprocess.run(
        [
            "gcc",
            "-D_FILE_OFFSET_BITS=64",
            include,
            "-shared",
            "-fPIC",
            "-o",
            library,
            source,
            "-l:libfuse3.so.3",
        ],
        check=True,
    )
    with served(folder / "kvm", **{NATIVE_SLOT: str(library)}) as server:
        yield server


def test_native_slot_answers_and_passes_on_what_it_does_not_keep(
    door_with_native_slot: StandIn,
) -> None:
    facts = run_client(
        MAKE
        + """
tell(native=fcntl.ioctl(vcpu, Number.NATIVE), kind=fcntl.ioctl(vcpu, Number.KIND),
     vm=errno_of(fcntl.ioctl, vm, Number.NATIVE))
""",
        door_with_native_slot.path,
    )
    assert facts == {"native": 77, "kind": 2, "vm": errno.EINVAL}
