"""KVM_CREATE_GUEST_MEMFD: memory of a guest that its client cannot reach."""

import ctypes
import errno
import fcntl
import mmap
import os
import stat

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_CHECK_EXTENSION,
    KVM_CREATE_GUEST_MEMFD,
    KVM_GET_API_VERSION,
)
from kvmshim.abi.structs_gen import kvm_create_guest_memfd
from tests.ioctl.private_memory import GuestMemfd
from tests.kvm import PAGE_SIZE, System, Vm, libc, map_memory, refused

KEEP_SIZE = 1
PUNCH_HOLE = 2
ZERO_RANGE = 0x10
SIZE = 4 * PAGE_SIZE

libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]


@pytest.fixture
def memory(vm: Vm) -> GuestMemfd:
    """A guest_memfd of four pages."""
    return GuestMemfd(vm, SIZE)


def fallocate(memory: GuestMemfd, mode: int, offset: int, size: int) -> None:
    if libc.fallocate(memory.fd, mode, offset, size) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def test_capability_is_that_of_a_vm_with_private_memory(system: System, vm: Vm) -> None:
    protected = system.create_vm(kvm.KVM_X86_SW_PROTECTED_VM)
    for holder, value in ((system, 1), (protected, 1), (vm, 0)):
        found = holder.ioctl(KVM_CHECK_EXTENSION, kvm.KVM_CAP_GUEST_MEMFD)
        assert found == value


def test_file_has_its_size_and_a_number_of_its_own(vm: Vm, memory: GuestMemfd) -> None:
    found, other = os.fstat(memory.fd), os.fstat(GuestMemfd(vm, 2 * PAGE_SIZE).fd)
    assert (found.st_size, other.st_size) == (SIZE, 2 * PAGE_SIZE)
    assert found.st_blksize == PAGE_SIZE
    assert found.st_ino != other.st_ino
    assert stat.S_ISREG(found.st_mode)


def test_file_survives_exec(memory: GuestMemfd) -> None:
    assert fcntl.fcntl(memory.fd, fcntl.F_GETFD) == 0


def test_contents_cannot_be_reached(memory: GuestMemfd) -> None:
    with refused(errno.EINVAL):
        os.pread(memory.fd, 1, 0)
    with refused(errno.EINVAL):
        os.pwrite(memory.fd, b"x", 0)
    with refused(errno.ENODEV):
        map_memory(PAGE_SIZE, flags=mmap.MAP_SHARED, fd=memory.fd, protection=mmap.PROT_READ)
    with refused(errno.EINVAL):
        os.ftruncate(memory.fd, PAGE_SIZE)
    with refused(errno.ENOTTY):
        memory.ioctl(KVM_GET_API_VERSION)


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, 1 << 63, (1 << 64) - 1])
def test_sizes_that_are_refused(vm: Vm, size: int) -> None:
    with refused(errno.EINVAL):
        GuestMemfd(vm, size)


@pytest.mark.parametrize("bit", [0, 1, 31, 63])
def test_flags_are_refused(vm: Vm, bit: int) -> None:
    wanted = kvm_create_guest_memfd(size=PAGE_SIZE, flags=1 << bit)
    with refused(errno.EINVAL):
        vm.ioctl(KVM_CREATE_GUEST_MEMFD, wanted)


@pytest.mark.parametrize(
    ("mode", "offset", "size"),
    [
        (KEEP_SIZE, 0, SIZE),
        (KEEP_SIZE | PUNCH_HOLE, PAGE_SIZE, PAGE_SIZE),
        (KEEP_SIZE | PUNCH_HOLE, SIZE, PAGE_SIZE),
        (KEEP_SIZE | PUNCH_HOLE, SIZE + PAGE_SIZE, PAGE_SIZE),
        (KEEP_SIZE | PUNCH_HOLE, 0, 1 << 40),
    ],
)
def test_fallocate(memory: GuestMemfd, mode: int, offset: int, size: int) -> None:
    fallocate(memory, mode, offset, size)
    assert os.fstat(memory.fd).st_size == SIZE


@pytest.mark.parametrize(
    ("mode", "offset", "size", "number"),
    [
        (KEEP_SIZE, SIZE, PAGE_SIZE, errno.EINVAL),
        (KEEP_SIZE, 0, SIZE + PAGE_SIZE, errno.EINVAL),
        (KEEP_SIZE, 1, PAGE_SIZE, errno.EINVAL),
        (KEEP_SIZE | PUNCH_HOLE, PAGE_SIZE - 1, PAGE_SIZE, errno.EINVAL),
        (KEEP_SIZE | PUNCH_HOLE, 0, PAGE_SIZE + 1, errno.EINVAL),
        (0, 0, PAGE_SIZE, errno.EOPNOTSUPP),
        (KEEP_SIZE | ZERO_RANGE, 0, PAGE_SIZE, errno.EOPNOTSUPP),
    ],
)
def test_fallocate_refuses(
    memory: GuestMemfd, mode: int, offset: int, size: int, number: int
) -> None:
    with refused(number):
        fallocate(memory, mode, offset, size)


def test_file_outlives_its_vm(system: System) -> None:
    vm = system.create_vm()
    memory = GuestMemfd(vm, SIZE)
    kept = os.dup(memory.fd)
    vm.close()
    assert os.fstat(kept).st_size == SIZE
    assert libc.fallocate(kept, KEEP_SIZE, 0, SIZE) == 0
    os.close(kept)
