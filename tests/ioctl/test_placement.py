"""KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_BOOT_CPU_ID: before the first vCPU."""

import errno
from ctypes import c_uint64

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_SET_BOOT_CPU_ID,
    KVM_SET_IDENTITY_MAP_ADDR,
    KVM_SET_TSS_ADDR,
)
from kvmshim.abi.msr_index import MSR_IA32_APICBASE_BSP
from tests.kvm import System, Vcpu, Vm, refused

CAPABILITIES = [
    kvm.KVM_CAP_SET_TSS_ADDR,
    kvm.KVM_CAP_SET_IDENTITY_MAP_ADDR,
    kvm.KVM_CAP_SET_BOOT_CPU_ID,
]


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_capability_is_announced(system: System, capability: int) -> None:
    assert system.check_extension(capability) == 1


@pytest.mark.parametrize("address", [0, 0xFFFB_D000, 0xFEFF_D000, 0xFFFF_D000], ids=hex)
def test_tss_fits_below_4_gib(vm: Vm, address: int) -> None:
    assert vm.ioctl(KVM_SET_TSS_ADDR, address) == 0


@pytest.mark.parametrize("address", [0xFFFF_D001, 0xFFFF_F000, 1 << 32, (1 << 64) - 1], ids=hex)
def test_tss_beyond_4_gib_is_refused(vm: Vm, address: int) -> None:
    with refused(errno.EINVAL):
        vm.ioctl(KVM_SET_TSS_ADDR, address)


def test_tss_may_be_placed_after_the_first_vcpu(vm: Vm) -> None:
    vm.create_vcpu(0)
    assert vm.ioctl(KVM_SET_TSS_ADDR, 0xFFFB_D000) == 0


@pytest.mark.parametrize("address", [0, 0xFFFF_C000, 0xFEFF_C000, 0x123, (1 << 64) - 1], ids=hex)
def test_identity_map_may_lie_anywhere(vm: Vm, address: int) -> None:
    assert vm.ioctl(KVM_SET_IDENTITY_MAP_ADDR, c_uint64(address)) == 0


def test_identity_map_is_refused_after_the_first_vcpu(vm: Vm) -> None:
    vm.create_vcpu(0)
    with refused(errno.EINVAL):
        vm.ioctl(KVM_SET_IDENTITY_MAP_ADDR, c_uint64(0xFFFF_C000))


def test_identity_map_is_refused_after_the_only_vcpu_was_closed(vm: Vm) -> None:
    vm.create_vcpu(0).close()
    with refused(errno.EINVAL):
        vm.ioctl(KVM_SET_IDENTITY_MAP_ADDR, c_uint64(0xFFFF_C000))


@pytest.mark.parametrize("boots", [0, 1, 7])
def test_one_vcpu_is_the_boot_processor(vm: Vm, boots: int) -> None:
    assert vm.ioctl(KVM_SET_BOOT_CPU_ID, boots) == 0
    for vcpu_id in (0, 1, 7):
        apic_base = vm.create_vcpu(vcpu_id).sregs().apic_base
        assert bool(apic_base & MSR_IA32_APICBASE_BSP) == (vcpu_id == boots)


def test_boot_processor_may_be_one_that_never_comes(vm: Vm) -> None:
    vm.ioctl(KVM_SET_BOOT_CPU_ID, 5)
    assert not vm.create_vcpu(0).sregs().apic_base & MSR_IA32_APICBASE_BSP


def test_boot_processor_is_fixed_after_the_first_vcpu(vm: Vm) -> None:
    vm.create_vcpu(1)
    with refused(errno.EBUSY):
        vm.ioctl(KVM_SET_BOOT_CPU_ID, 1)
    assert vm.create_vcpu(0).sregs().apic_base & MSR_IA32_APICBASE_BSP


@pytest.mark.parametrize(
    "number", [KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_BOOT_CPU_ID], ids=hex
)
def test_only_a_vm_is_asked(system: System, vcpu: Vcpu, number: int) -> None:
    for other in (system, vcpu):
        with refused(errno.EINVAL):
            other.ioctl(number, c_uint64(0))
