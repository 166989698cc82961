"""KVM_SET_MSRS of IA32_TSC: vCPUs whose counters are meant to be one have exactly that one."""

from kvmshim.abi.ioctls_gen import KVM_SET_TSC_KHZ
from tests.kvm import Vcpu, Vm

TSC = 0x10
KHZ = 2_000_000


def counter(vcpu: Vcpu) -> int:
    (value,) = vcpu.msrs([TSC])
    return value


def ascend(vcpus: list[Vcpu]) -> bool:
    """Whether counters that are read in turn never go back."""
    seen = [counter(vcpu) for _ in range(500) for vcpu in vcpus]
    return seen == sorted(seen)


def write(vcpu: Vcpu, value: int) -> None:
    assert vcpu.set_msrs([(TSC, value)]) == 1


def test_new_vcpus_count_with_the_others(vm: Vm) -> None:
    assert ascend([vm.create_vcpu(number) for number in range(3)])


def test_new_vcpu_counts_on_from_what_was_written(vm: Vm) -> None:
    first = vm.create_vcpu(0)
    write(first, 1 << 60)
    assert ascend([first, vm.create_vcpu(1)])


def test_write_near_the_last_one_is_the_same_counter(vm: Vm) -> None:
    vcpus = [vm.create_vcpu(number) for number in range(2)]
    write(vcpus[0], 1 << 60)
    write(vcpus[1], (1 << 60) + 1000)
    assert ascend(vcpus)


def test_zero_is_the_same_counter(vm: Vm) -> None:
    vcpus = [vm.create_vcpu(number) for number in range(2)]
    write(vcpus[0], 1 << 60)
    write(vcpus[1], 0)
    assert ascend(vcpus)


def test_write_far_from_the_last_one_is_another_counter(vm: Vm) -> None:
    vcpus = [vm.create_vcpu(number) for number in range(2)]
    write(vcpus[0], 1 << 60)
    write(vcpus[1], 1 << 61)
    assert 1 << 60 <= counter(vcpus[0]) < 1 << 61 <= counter(vcpus[1])


def test_counters_of_another_frequency_are_not_matched(vm: Vm) -> None:
    vcpus = [vm.create_vcpu(number) for number in range(2)]
    write(vcpus[0], 1 << 60)
    vcpus[1].ioctl(KVM_SET_TSC_KHZ, KHZ)
    write(vcpus[1], 1 << 59)
    assert counter(vcpus[1]) < 1 << 60 <= counter(vcpus[0])
