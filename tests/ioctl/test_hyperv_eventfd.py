"""KVM_HYPERV_EVENTFD: HvCallSignalEvent signals an eventfd and stays in the guest."""

import errno
import os
import struct

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_HYPERV_EVENTFD
from kvmshim.abi.structs_gen import kvm_hyperv_eventfd
from tests import hyperv as hv
from tests.hyperv import Guest
from tests.ioctl.test_ioeventfd import count
from tests.kvm import System, Vm, refused
from tests.machine import DATA, RAM_SIZE, Mode

CONNECTION = 0x12_3456
DEASSIGN = kvm.KVM_HYPERV_EVENTFD_DEASSIGN


@pytest.fixture
def eventfd() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


@pytest.fixture
def guest(system: System) -> Guest:
    """It has a synthetic interrupt controller, so the client would be asked."""
    made = Guest.of(system, controllers=True)
    hv.enable(made.vcpu, kvm.KVM_CAP_HYPERV_SYNIC2)
    made.introduce()
    return made


def assign(vm: Vm, fd: int, connection: int = CONNECTION, flags: int = 0) -> None:
    vm.ioctl(KVM_HYPERV_EVENTFD, kvm_hyperv_eventfd(conn_id=connection, fd=fd, flags=flags))


def leaves(guest: Guest, control: int, first: int) -> bool:
    """Whether the client has to answer, which it then does."""
    reason = guest.begin("call", **guest.words(control, first))
    if reason == kvm.KVM_EXIT_IO:
        return False
    assert reason == kvm.KVM_EXIT_HYPERV
    guest.vcpu.exit_words[2] = 0
    assert guest.vcpu.run() == kvm.KVM_EXIT_IO
    return True


def test_hv_08_it_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_HYPERV_EVENTFD) == 1
    assert KVM_HYPERV_EVENTFD == 0x4018_AEBD


@pytest.mark.parametrize("fast", [0, hv.FAST], ids=["memory", "fast"])
def test_hv_08_a_signal_is_counted_and_stays_in_the_guest(
    guest: Guest, eventfd: int, fast: int
) -> None:
    assign(guest.machine.vm, eventfd)
    guest.machine.ram.write(DATA, struct.pack("<Q", CONNECTION))
    for _ in range(3):
        assert guest.call(hv.SIGNAL_EVENT | fast, CONNECTION if fast else DATA) == hv.SUCCESS
    assert count(eventfd) == 3


def test_hv_08_it_needs_no_synthetic_interrupt_controller(system: System, eventfd: int) -> None:
    guest = Guest.introduced(system)
    assert guest.call(hv.SIGNAL_EVENT | hv.FAST, CONNECTION) == hv.INVALID_INPUT
    assign(guest.machine.vm, eventfd)
    assert guest.call(hv.SIGNAL_EVENT | hv.FAST, CONNECTION) == hv.SUCCESS
    assert count(eventfd) == 1


def test_hv_08_outside_64_bit_mode_too(system: System, eventfd: int) -> None:
    guest = Guest.introduced(system, mode=Mode.PROTECTED)
    assign(guest.machine.vm, eventfd)
    assert guest.call(hv.SIGNAL_EVENT | hv.FAST, CONNECTION) == hv.SUCCESS
    assert count(eventfd) == 1


def test_hv_08_other_connections_are_the_clients(guest: Guest, eventfd: int) -> None:
    assign(guest.machine.vm, eventfd)
    assert leaves(guest, hv.SIGNAL_EVENT | hv.FAST, CONNECTION + 1)
    assert leaves(guest, hv.SIGNAL_EVENT | hv.FAST, 0)
    assert leaves(guest, hv.POST_MESSAGE, DATA)
    assert count(eventfd) == 0


def test_hv_08_a_flag_number_makes_it_the_clients(guest: Guest, eventfd: int) -> None:
    assign(guest.machine.vm, eventfd)
    assert leaves(guest, hv.SIGNAL_EVENT | hv.FAST, CONNECTION | 1 << 32)
    assert leaves(guest, hv.SIGNAL_EVENT | hv.FAST, CONNECTION | 1 << 47)
    assert count(eventfd) == 0


@pytest.mark.parametrize("bit", [24, 31, 48, 63])
def test_hv_08_reserved_bits_are_refused(guest: Guest, eventfd: int, bit: int) -> None:
    assign(guest.machine.vm, eventfd)
    assert guest.call(hv.SIGNAL_EVENT | hv.FAST, CONNECTION | 1 << bit) == hv.INVALID_INPUT
    assert count(eventfd) == 0


@pytest.mark.parametrize("address", [DATA + 1, DATA + 4, RAM_SIZE, 1 << 52], ids=hex)
def test_hv_08_input_that_is_not_there_is_not_aligned(guest: Guest, address: int) -> None:
    assert guest.call(hv.SIGNAL_EVENT, address) == hv.INVALID_ALIGNMENT


def test_hv_08_deassigned_it_is_the_clients_again(guest: Guest, eventfd: int) -> None:
    vm = guest.machine.vm
    assign(vm, eventfd)
    assign(vm, -1, flags=DEASSIGN)
    assert leaves(guest, hv.SIGNAL_EVENT | hv.FAST, CONNECTION)
    assert count(eventfd) == 0
    assign(vm, eventfd)
    assert guest.call(hv.SIGNAL_EVENT | hv.FAST, CONNECTION) == hv.SUCCESS
    assert count(eventfd) == 1


def test_hv_08_a_connection_has_one_eventfd(vm: Vm, eventfd: int) -> None:
    assign(vm, eventfd)
    with refused(errno.EEXIST):
        assign(vm, eventfd)
    assign(vm, eventfd, CONNECTION + 1)
    with refused(errno.ENOENT):
        assign(vm, -1, CONNECTION + 2, DEASSIGN)
    assign(vm, -1, flags=DEASSIGN)
    with refused(errno.ENOENT):
        assign(vm, -1, flags=DEASSIGN)


@pytest.mark.parametrize("flags", [2, 3, 1 << 31])
def test_hv_08_unknown_flags_are_refused(vm: Vm, eventfd: int, flags: int) -> None:
    with refused(errno.EINVAL):
        assign(vm, eventfd, flags=flags)


@pytest.mark.parametrize("connection", [1 << 24, 0xFFFF_FFFF])
def test_hv_08_a_connection_has_24_bits(vm: Vm, eventfd: int, connection: int) -> None:
    for flags in (0, DEASSIGN):
        with refused(errno.EINVAL):
            assign(vm, eventfd, connection, flags)
    assign(vm, eventfd, (1 << 24) - 1)


def test_hv_08_it_has_to_be_an_eventfd(vm: Vm) -> None:
    with refused(errno.EBADF):
        assign(vm, 9999)
    with open(os.devnull) as other, refused(errno.EINVAL):
        assign(vm, other.fileno())
