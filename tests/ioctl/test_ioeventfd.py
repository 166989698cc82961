"""KVM_IOEVENTFD: a write that matches signals the eventfd and does not leave the guest."""

import errno
import os

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.constants_gen import KVM_EXIT_HLT, KVM_EXIT_IO, KVM_EXIT_MMIO
from kvmshim.abi.structs_gen import kvm_ioeventfd
from tests.kvm import refused
from tests.machine import MMIO, Machine, Mode

PORT = 0x10

DATAMATCH = 1 << kvm.kvm_ioeventfd_flag_nr_datamatch
PIO = 1 << kvm.kvm_ioeventfd_flag_nr_pio
DEASSIGN = 1 << kvm.kvm_ioeventfd_flag_nr_deassign


@pytest.fixture
def eventfd() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def count(eventfd: int) -> int:
    """What has been signalled since the last look."""
    try:
        return os.eventfd_read(eventfd)
    except BlockingIOError:
        return 0


def assign(machine: Machine, fd: int, **fields: int) -> None:
    machine.vm.ioctl(nr.KVM_IOEVENTFD, kvm_ioeventfd(fd=fd, **fields))


@pytest.mark.parametrize("size", [0, 1, 2, 4])
def test_a_port_write_stays_in_the_guest(machine: Machine, eventfd: int, size: int) -> None:
    assign(machine, eventfd, addr=PORT, len=size, flags=PIO)
    register = {0: "al", 1: "al", 2: "ax", 4: "eax"}[size]
    machine.load(f"out {PORT}, {register}; out {PORT}, {register}; hlt", Mode.REAL)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert count(eventfd) == 2


@pytest.mark.parametrize(("size", "register"), [(1, "bl"), (2, "bx"), (4, "ebx"), (8, "rbx")])
def test_a_memory_write_stays_in_the_guest(
    machine: Machine, eventfd: int, size: int, register: str
) -> None:
    assign(machine, eventfd, addr=MMIO, len=size)
    machine.load(f"mov ebx, 5; mov eax, {MMIO:#x}; mov [rax], {register}; hlt", Mode.LONG)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert count(eventfd) == 1


def test_only_the_value_asked_for_matches(machine: Machine, eventfd: int) -> None:
    assign(machine, eventfd, addr=PORT, len=2, datamatch=0x1234, flags=PIO | DATAMATCH)
    machine.load(f"mov ax, 0x1234; out {PORT}, ax; inc ax; out {PORT}, ax; hlt", Mode.REAL)
    assert machine.vcpu.run() == KVM_EXIT_IO
    assert machine.vcpu.io_data == b"\x35\x12"
    assert count(eventfd) == 1


def test_each_value_has_an_eventfd_of_its_own(machine: Machine) -> None:
    fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3)]
    for value, fd in enumerate(fds):
        assign(machine, fd, addr=PORT, len=1, datamatch=value, flags=PIO | DATAMATCH)
    machine.load(f"mov al, 2; out {PORT}, al; mov al, 0; out {PORT}, al; hlt", Mode.REAL)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert [count(fd) for fd in fds] == [1, 0, 1]


def test_other_sizes_addresses_and_reads_leave_the_guest(machine: Machine, eventfd: int) -> None:
    assign(machine, eventfd, addr=PORT, len=2, flags=PIO)
    machine.load(f"out {PORT}, al; out {PORT + 1}, ax; in ax, {PORT}; hlt", Mode.REAL)
    assert [machine.vcpu.run() for _ in range(4)] == [KVM_EXIT_IO] * 3 + [KVM_EXIT_HLT]
    assert count(eventfd) == 0


def test_memory_and_ports_are_apart(machine: Machine, eventfd: int) -> None:
    assign(machine, eventfd, addr=MMIO, len=4, flags=PIO)
    machine.load(f"mov eax, {MMIO:#x}; mov [rax], ebx; hlt", Mode.LONG)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert count(eventfd) == 0


def test_it_goes_on_after_the_client_closed_its_descriptor(machine: Machine, eventfd: int) -> None:
    assign(machine, eventfd, addr=PORT, len=1, flags=PIO)
    other = os.dup(eventfd)
    os.close(eventfd)
    machine.load(f"out {PORT}, al; hlt", Mode.REAL)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert count(other) == 1


def test_deassigned_writes_leave_the_guest(machine: Machine, eventfd: int) -> None:
    assign(machine, eventfd, addr=PORT, len=1, flags=PIO)
    # Any descriptor of the eventfd will do.
    assign(machine, os.dup(eventfd), addr=PORT, len=1, flags=PIO | DEASSIGN)
    machine.load(f"out {PORT}, al; hlt", Mode.REAL)
    assert machine.vcpu.run() == KVM_EXIT_IO


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"len": 3}, errno.EINVAL),
        ({"len": 16}, errno.EINVAL),
        ({"len": 8, "addr": (1 << 64) - 4}, errno.EINVAL),
        ({"len": 4, "flags": 1 << 4}, errno.EINVAL),
        ({"len": 0, "flags": DATAMATCH}, errno.EINVAL),
        ({"len": 4, "fd": -1}, errno.EBADF),
        ({"len": 4, "fd": 0}, errno.EINVAL),
        ({"len": 4, "flags": DEASSIGN}, errno.ENOENT),
    ],
)
def test_bad_requests_are_refused(
    machine: Machine, eventfd: int, fields: dict[str, int], error: int
) -> None:
    with refused(error):
        assign(machine, **{"fd": eventfd, "addr": PORT, **fields})


@pytest.mark.parametrize(
    ("fields", "collides"),
    [
        ({"len": 2, "flags": PIO}, True),
        ({"len": 0, "flags": PIO}, True),
        ({"len": 2, "datamatch": 7, "flags": PIO | DATAMATCH}, True),
        ({"len": 2, "datamatch": 8, "flags": PIO | DATAMATCH}, False),
        ({"len": 4, "flags": PIO}, False),
        ({"len": 2}, False),
    ],
)
def test_one_write_is_for_one_eventfd(
    machine: Machine, eventfd: int, fields: dict[str, int], collides: bool
) -> None:
    assign(machine, eventfd, addr=PORT, len=2, datamatch=7, flags=PIO | DATAMATCH)
    if not collides:
        assign(machine, eventfd, addr=PORT, **fields)
        return
    with refused(errno.EEXIST):
        assign(machine, eventfd, addr=PORT, **fields)


def test_a_blocked_eventfd_does_not_block_the_guest(machine: Machine) -> None:
    full = os.eventfd((1 << 32) - 1)
    os.eventfd_write(full, (1 << 64) - 2 - ((1 << 32) - 1))
    assign(machine, full, addr=PORT, len=1, flags=PIO)
    machine.load(f"out {PORT}, al; hlt", Mode.REAL)
    assert machine.vcpu.run() == KVM_EXIT_HLT
