"""KVM_GET_CLOCK, KVM_SET_CLOCK: the VM's clock beside the host's."""

import errno
import time

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_CLOCK, KVM_SET_CLOCK
from kvmshim.abi.structs_gen import kvm_clock_data
from tests.kvm import System, Vcpu, Vm, refused

FLAGS = kvm.KVM_CLOCK_TSC_STABLE | kvm.KVM_CLOCK_REALTIME | kvm.KVM_CLOCK_HOST_TSC
HOUR_NS = 3600 * 10**9


def clock(vm: Vm) -> kvm_clock_data:
    found = kvm_clock_data()
    vm.ioctl(KVM_GET_CLOCK, found)
    return found


def test_capability_tells_the_flags(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_ADJUST_CLOCK) == FLAGS


def test_begins_at_0_with_the_vm(vm: Vm) -> None:
    found = clock(vm)
    assert found.flags == FLAGS
    assert 0 < found.clock < HOUR_NS


def test_never_goes_back(vm: Vm) -> None:
    seen = [clock(vm).clock for _ in range(100)]
    assert seen == sorted(set(seen))


def test_tells_the_hosts_clocks(vm: Vm) -> None:
    before = time.time_ns()
    first, second = clock(vm), clock(vm)
    assert before <= first.realtime <= second.realtime <= time.time_ns()
    assert 0 < first.host_tsc < second.host_tsc


def test_goes_on_from_what_was_set(vm: Vm) -> None:
    before = clock(vm)
    vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=10))
    assert 10 <= clock(vm).clock < before.clock + HOUR_NS
    vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=50 * HOUR_NS))
    assert 50 * HOUR_NS <= clock(vm).clock < 51 * HOUR_NS


def test_time_since_the_reading_is_added(vm: Vm) -> None:
    saved = clock(vm)
    saved.realtime -= 5 * HOUR_NS
    vm.ioctl(KVM_SET_CLOCK, saved)
    assert 5 * HOUR_NS <= clock(vm).clock - saved.clock < 6 * HOUR_NS


def test_a_reading_from_the_future_does_not_set_it_back(vm: Vm) -> None:
    saved = clock(vm)
    saved.clock, saved.realtime = 2 * HOUR_NS, saved.realtime + HOUR_NS
    vm.ioctl(KVM_SET_CLOCK, saved)
    assert 2 * HOUR_NS <= clock(vm).clock < 3 * HOUR_NS


def test_realtime_counts_only_with_its_flag(vm: Vm) -> None:
    vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=10, realtime=1))
    assert clock(vm).clock < HOUR_NS


@pytest.mark.parametrize("flags", [1, 0x10, 1 << 31], ids=hex)
def test_unknown_flags_are_refused(vm: Vm, flags: int) -> None:
    with refused(errno.EINVAL):
        vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=50 * HOUR_NS, flags=flags))
    assert clock(vm).clock < HOUR_NS


@pytest.mark.parametrize("number", [KVM_GET_CLOCK, KVM_SET_CLOCK], ids=hex)
def test_only_a_vm_has_one(system: System, vcpu: Vcpu, number: int) -> None:
    for other in (system, vcpu):
        with refused(errno.EINVAL):
            other.ioctl(number, kvm_clock_data())
