"""KVM_SET_VAPIC_ADDR, which clients with a local APIC in the engine call at each reset."""

import errno
from ctypes import c_uint64

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_CREATE_IRQCHIP, KVM_SET_VAPIC_ADDR
from tests.kvm import Region, System, Vcpu, Vm, refused


@pytest.fixture
def apic_vcpu(vm: Vm, memory: Region) -> Vcpu:
    """With a page of memory at 64 KiB."""
    vm.ioctl(KVM_CREATE_IRQCHIP)
    vm.set_region(gpa=0x10000, size=0x1000, address=memory.address)
    return vm.create_vcpu(0)


def test_tpr_accesses_are_not_told(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_VAPIC) == 0


@pytest.mark.parametrize("address", [0, 0x10000, 0x10FFC], ids=hex)
def test_address_is_taken(apic_vcpu: Vcpu, address: int) -> None:
    apic_vcpu.ioctl(KVM_SET_VAPIC_ADDR, c_uint64(address))


@pytest.mark.parametrize("address", [0xF000, 0x11000, 1 << 52, (1 << 64) - 4], ids=hex)
def test_address_without_memory_is_refused(apic_vcpu: Vcpu, address: int) -> None:
    with refused(errno.EINVAL):
        apic_vcpu.ioctl(KVM_SET_VAPIC_ADDR, c_uint64(address))


def test_without_a_local_apic_it_is_refused(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_SET_VAPIC_ADDR, c_uint64())


def test_only_a_vcpu_has_it(system: System, vm: Vm) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_SET_VAPIC_ADDR, c_uint64())
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_SET_VAPIC_ADDR, c_uint64())
