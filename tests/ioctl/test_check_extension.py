"""KVM_CHECK_EXTENSION: what is announced is there, everything else is 0 and no error."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_CHECK_EXTENSION
from kvmshim.abi.limits import KVMSHIM_CAP_IDENTITY
from tests.kvm import System, Vcpu, Vm, refused

ANNOUNCED = {
    "USER_MEMORY": kvm.KVM_CAP_USER_MEMORY,
    "EXT_CPUID": kvm.KVM_CAP_EXT_CPUID,
    "MP_STATE": kvm.KVM_CAP_MP_STATE,
    "DESTROY_MEMORY_REGION_WORKS": kvm.KVM_CAP_DESTROY_MEMORY_REGION_WORKS,
    "JOIN_MEMORY_REGIONS_WORKS": kvm.KVM_CAP_JOIN_MEMORY_REGIONS_WORKS,
    "CHECK_EXTENSION_VM": kvm.KVM_CAP_CHECK_EXTENSION_VM,
    "IMMEDIATE_EXIT": kvm.KVM_CAP_IMMEDIATE_EXIT,
}
UNKNOWN = [9999, 0x7FFF_FFFF, 0xFFFF_FFFF, (1 << 64) - 1]


@pytest.mark.parametrize("capability", ANNOUNCED.values(), ids=ANNOUNCED)
def test_capability_is_announced(system: System, capability: int) -> None:
    assert system.check_extension(capability) == 1


@pytest.mark.parametrize("capability", UNKNOWN, ids=hex)
def test_unknown_capability_is_0(system: System, capability: int) -> None:
    assert system.check_extension(capability) == 0


def test_interrupt_controllers_are_announced(system: System) -> None:
    for capability in (kvm.KVM_CAP_IRQCHIP, kvm.KVM_CAP_SPLIT_IRQCHIP, kvm.KVM_CAP_PIT2):
        assert system.check_extension(capability) == 1


def test_only_kvmshim_knows_its_identity(system: System) -> None:
    assert system.check_extension(KVMSHIM_CAP_IDENTITY) == KVMSHIM_CAP_IDENTITY


def test_recommended_vcpus_are_at_most_the_maximum(system: System) -> None:
    recommended = system.check_extension(kvm.KVM_CAP_NR_VCPUS)
    assert 1 <= recommended <= system.check_extension(kvm.KVM_CAP_MAX_VCPUS)


def test_vcpu_ids_reach_at_least_as_far_as_vcpus(system: System) -> None:
    ids = system.check_extension(kvm.KVM_CAP_MAX_VCPU_ID)
    assert ids >= system.check_extension(kvm.KVM_CAP_MAX_VCPUS)


def test_there_are_memory_slots(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_NR_MEMSLOTS) >= 32


def test_vm_gives_the_same_answers(system: System, vm: Vm) -> None:
    capabilities = [*ANNOUNCED.values(), *UNKNOWN, kvm.KVM_CAP_NR_MEMSLOTS, KVMSHIM_CAP_IDENTITY]
    of_vm = [vm.ioctl(KVM_CHECK_EXTENSION, capability) for capability in capabilities]
    assert of_vm == [system.check_extension(capability) for capability in capabilities]


def test_vcpu_has_no_extensions(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_CHECK_EXTENSION, kvm.KVM_CAP_USER_MEMORY)
