"""KVM_CREATE_PIT, KVM_GET_PIT, KVM_SET_PIT: the timer as old clients know it."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.structs_gen import (
    kvm_pit_config,
    kvm_pit_state,
    kvm_pit_state2,
    kvm_reinject_control,
)
from tests.kvm import System, Vm, refused
from tests.machine import RAM_SIZE, Machine, Mode

BYTES = bytes(kvm_pit_state())


@pytest.fixture
def timed(system: System) -> Vm:
    """A VM with a timer."""
    vm = system.create_vm()
    vm.ioctl(nr.KVM_CREATE_IRQCHIP)
    vm.ioctl(nr.KVM_CREATE_PIT)
    return vm


def state(vm: Vm) -> kvm_pit_state:
    found = kvm_pit_state()
    vm.ioctl(nr.KVM_GET_PIT, found)
    return found


def state2(vm: Vm) -> kvm_pit_state2:
    found = kvm_pit_state2()
    vm.ioctl(nr.KVM_GET_PIT2, found)
    return found


def test_it_exists_once_however_it_is_made(timed: Vm) -> None:
    with refused(errno.EEXIST):
        timed.ioctl(nr.KVM_CREATE_PIT)
    with refused(errno.EEXIST):
        timed.ioctl(nr.KVM_CREATE_PIT2, kvm_pit_config())


def test_it_has_port_61h(timed: Vm) -> None:
    ram = timed.add_region(slot=0, gpa=0, size=RAM_SIZE)
    machine = Machine(timed, timed.create_vcpu(0), ram)
    machine.load("in al, 0x61; out 0x80, al; hlt", Mode.REAL)
    assert machine.vcpu.port() == 0x80


def test_channels_are_those_of_the_newer_ioctl(timed: Vm) -> None:
    assert bytes(state(timed)) == bytes(state2(timed))[: len(BYTES)]


def test_channels_read_back_as_they_were_set(timed: Vm) -> None:
    wanted = state(timed)
    wanted.channels[2].count, wanted.channels[2].mode = 0x1234, 3
    timed.ioctl(nr.KVM_SET_PIT, wanted)
    assert (state(timed).channels[2].count, state(timed).channels[2].mode) == (0x1234, 3)


def test_setting_channels_keeps_the_flags(timed: Vm) -> None:
    both = state2(timed)
    both.flags = kvm.KVM_PIT_FLAGS_HPET_LEGACY
    timed.ioctl(nr.KVM_SET_PIT2, both)
    timed.ioctl(nr.KVM_SET_PIT, state(timed))
    assert state2(timed).flags == kvm.KVM_PIT_FLAGS_HPET_LEGACY


@pytest.mark.parametrize("reinject", [0, 1])
def test_lost_ticks_may_be_given_up(timed: Vm, reinject: int) -> None:
    assert timed.ioctl(nr.KVM_REINJECT_CONTROL, kvm_reinject_control(pit_reinject=reinject)) == 0


def test_without_a_timer_there_are_no_ticks_to_give_up(vm: Vm) -> None:
    with refused(errno.ENXIO):
        vm.ioctl(nr.KVM_REINJECT_CONTROL, kvm_reinject_control())


@pytest.mark.parametrize("number", [nr.KVM_GET_PIT, nr.KVM_SET_PIT], ids=hex)
def test_there_is_none_before_it_is_made(vm: Vm, number: int) -> None:
    with refused(errno.ENXIO):
        vm.ioctl(number, kvm_pit_state())


def test_it_needs_a_pic(vm: Vm) -> None:
    with refused(errno.ENOENT):
        vm.ioctl(nr.KVM_CREATE_PIT)
