"""KVM_SET_TSC_KHZ, KVM_GET_TSC_KHZ: the frequency of the guest's time-stamp counter."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_CLOCK, KVM_GET_TSC_KHZ, KVM_SET_TSC_KHZ
from kvmshim.abi.structs_gen import kvm_clock_data
from tests.kvm import System, Vcpu, Vm, refused

IA32_TSC = 0x10
CAPABILITIES = [kvm.KVM_CAP_GET_TSC_KHZ, kvm.KVM_CAP_TSC_CONTROL, kvm.KVM_CAP_VM_TSC_CONTROL]


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_capability_is_announced(system: System, capability: int) -> None:
    assert system.check_extension(capability) == 1


def test_vcpus_begin_with_the_frequency_of_the_vm(vm: Vm) -> None:
    assert vm.create_vcpu(0).ioctl(KVM_GET_TSC_KHZ) == vm.ioctl(KVM_GET_TSC_KHZ) > 0


@pytest.mark.parametrize("khz", [1, 500_000, 3_000_000, 0x7FFF_FFFE])
def test_set_then_get(vcpu: Vcpu, khz: int) -> None:
    assert vcpu.ioctl(KVM_SET_TSC_KHZ, khz) == 0
    assert vcpu.ioctl(KVM_GET_TSC_KHZ) == khz


def test_0_is_the_hosts_frequency(vcpu: Vcpu) -> None:
    host = vcpu.ioctl(KVM_GET_TSC_KHZ)
    vcpu.ioctl(KVM_SET_TSC_KHZ, host // 2)
    vcpu.ioctl(KVM_SET_TSC_KHZ, 0)
    assert vcpu.ioctl(KVM_GET_TSC_KHZ) == host


@pytest.mark.parametrize("khz", [0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF], ids=hex)
def test_no_counter_is_that_fast(vm: Vm, vcpu: Vcpu, khz: int) -> None:
    for target in (vm, vcpu):
        before = target.ioctl(KVM_GET_TSC_KHZ)
        with refused(errno.EINVAL):
            target.ioctl(KVM_SET_TSC_KHZ, khz)
        assert target.ioctl(KVM_GET_TSC_KHZ) == before


def test_vms_frequency_is_for_vcpus_to_come(vm: Vm) -> None:
    first = vm.create_vcpu(0)
    host = first.ioctl(KVM_GET_TSC_KHZ)
    vm.ioctl(KVM_SET_TSC_KHZ, 2 * host // 3)
    assert vm.ioctl(KVM_GET_TSC_KHZ) == 2 * host // 3
    assert vm.create_vcpu(1).ioctl(KVM_GET_TSC_KHZ) == 2 * host // 3
    assert first.ioctl(KVM_GET_TSC_KHZ) == host


def clock_ns(vm: Vm) -> int:
    clock = kvm_clock_data()
    vm.ioctl(KVM_GET_CLOCK, clock)
    return clock.clock


def ticks(vm: Vm, vcpu: Vcpu) -> tuple[int, int, int]:
    """The VM's clock in ns, the counter after it, the clock again."""
    return clock_ns(vm), vcpu.msrs([IA32_TSC])[0], clock_ns(vm)


@pytest.mark.parametrize("khz", [1_000, 100_000, 10_000_000])
def test_counter_runs_at_the_frequency(vm: Vm, vcpu: Vcpu, khz: int) -> None:
    vcpu.ioctl(KVM_SET_TSC_KHZ, khz)
    first_from, first, first_to = ticks(vm, vcpu)
    while (last := ticks(vm, vcpu))[0] < first_to + 20_000_000:
        pass
    last_from, last_ticks, last_to = last
    at_least = (last_from - first_to) * khz // 1_000_000
    at_most = (last_to - first_from) * khz // 1_000_000
    assert at_least - 1 <= last_ticks - first <= at_most + 1


def test_counters_of_one_frequency_agree(vm: Vm) -> None:
    first, second = vm.create_vcpu(0), vm.create_vcpu(1)
    first.ioctl(KVM_SET_TSC_KHZ, 1_000_000)
    second.ioctl(KVM_SET_TSC_KHZ, 1_000_000)
    seen = [vcpu.msrs([IA32_TSC])[0] for vcpu in (first, second, first, second)]
    assert seen == sorted(seen)


def test_system_has_no_counter(system: System) -> None:
    for number in (KVM_GET_TSC_KHZ, KVM_SET_TSC_KHZ):
        with refused(errno.EINVAL):
            system.ioctl(number)
