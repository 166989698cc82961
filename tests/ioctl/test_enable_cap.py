"""KVM_ENABLE_CAP of a VM."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_ENABLE_CAP
from kvmshim.abi.structs_gen import kvm_enable_cap
from tests.kvm import System, Vcpu, Vm, refused

SWITCHES = [kvm.KVM_CAP_EXCEPTION_PAYLOAD, kvm.KVM_CAP_X86_TRIPLE_FAULT_EVENT]


def enable(vm: Vm, capability: int, argument: int, *, flags: int = 0) -> int:
    wanted = kvm_enable_cap(cap=capability, flags=flags)
    wanted.args[0] = argument
    return vm.ioctl(KVM_ENABLE_CAP, wanted)


@pytest.mark.parametrize("capability", [kvm.KVM_CAP_ENABLE_CAP, kvm.KVM_CAP_ENABLE_CAP_VM])
def test_enabling_is_announced(system: System, capability: int) -> None:
    assert system.check_extension(capability) == 1


@pytest.mark.parametrize("capability", SWITCHES)
def test_switch_is_announced_and_goes_on_and_off(system: System, vm: Vm, capability: int) -> None:
    assert system.check_extension(capability) == 1
    for on in (1, 0, 1):
        assert enable(vm, capability, on) == 0


@pytest.mark.parametrize("capability", SWITCHES)
def test_flags_are_refused(vm: Vm, capability: int) -> None:
    with refused(errno.EINVAL):
        enable(vm, capability, 1, flags=1)


@pytest.mark.parametrize("capability", [0, kvm.KVM_CAP_USER_MEMORY, 9999, 0xFFFF_FFFF])
def test_what_cannot_be_enabled_is_refused(vm: Vm, capability: int) -> None:
    with refused(errno.EINVAL):
        enable(vm, capability, 1)


def test_bound_of_vcpu_ids(vm: Vm) -> None:
    enable(vm, kvm.KVM_CAP_MAX_VCPU_ID, 2)
    with refused(errno.EINVAL):
        vm.create_vcpu(2)
    vm.create_vcpu(1)


def test_bound_is_set_once(vm: Vm) -> None:
    enable(vm, kvm.KVM_CAP_MAX_VCPU_ID, 2)
    assert enable(vm, kvm.KVM_CAP_MAX_VCPU_ID, 2) == 0
    with refused(errno.EINVAL):
        enable(vm, kvm.KVM_CAP_MAX_VCPU_ID, 3)


def test_bound_comes_before_the_first_vcpu(system: System, vm: Vm) -> None:
    vm.create_vcpu(0)
    with refused(errno.EINVAL):
        enable(vm, kvm.KVM_CAP_MAX_VCPU_ID, 2)
    assert enable(vm, kvm.KVM_CAP_MAX_VCPU_ID, system.check_extension(kvm.KVM_CAP_MAX_VCPU_ID)) == 0


def test_bound_beyond_all_ids_is_refused(system: System, vm: Vm) -> None:
    with refused(errno.EINVAL):
        enable(vm, kvm.KVM_CAP_MAX_VCPU_ID, system.check_extension(kvm.KVM_CAP_MAX_VCPU_ID) + 1)


def test_system_and_vcpus_enable_nothing(system: System, vcpu: Vcpu) -> None:
    for other in (system, vcpu):
        with refused(errno.EINVAL):
            other.ioctl(KVM_ENABLE_CAP, kvm_enable_cap(cap=kvm.KVM_CAP_EXCEPTION_PAYLOAD))
