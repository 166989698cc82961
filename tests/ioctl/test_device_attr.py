"""KVM_HAS_, KVM_GET_ and KVM_SET_DEVICE_ATTR of the system and of a vCPU."""

import ctypes
import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_GET_CLOCK,
    KVM_GET_DEVICE_ATTR,
    KVM_GET_TSC_KHZ,
    KVM_HAS_DEVICE_ATTR,
    KVM_SET_DEVICE_ATTR,
    KVM_SET_TSC_KHZ,
)
from kvmshim.abi.structs_gen import kvm_clock_data, kvm_device_attr
from tests.kvm import Descriptor, System, Vcpu, Vm, refused
from tests.machine import Machine, Mode

IA32_TSC = 0x10
IA32_TSC_ADJUST = 0x3B

XSAVE_LEAF = 0xD
BAD_ADDRESS = 8

READ_COUNTER = """
    rdtsc
    shl rdx, 32
    or rax, rdx
    hlt
"""


def attribute(group: int = 0, attr: int = 0, value: ctypes.c_uint64 | int = 0) -> kvm_device_attr:
    address = value if isinstance(value, int) else ctypes.addressof(value)
    return kvm_device_attr(group=group, attr=attr, addr=address)


def offset_of(vcpu: Vcpu) -> int:
    value = ctypes.c_uint64()
    vcpu.ioctl(KVM_GET_DEVICE_ATTR, attribute(value=value))
    return value.value


def set_offset(vcpu: Vcpu, offset: int) -> None:
    vcpu.ioctl(KVM_SET_DEVICE_ATTR, attribute(value=ctypes.c_uint64(offset)))


def host_tsc(vm: Vm) -> int:
    clock = kvm_clock_data()
    vm.ioctl(KVM_GET_CLOCK, clock)
    return clock.host_tsc


@pytest.mark.parametrize("capability", [kvm.KVM_CAP_VCPU_ATTRIBUTES, kvm.KVM_CAP_SYS_ATTRIBUTES])
def test_capability_is_announced(system: System, capability: int) -> None:
    assert system.check_extension(capability) == 1


def test_system_tells_the_components_that_guests_can_enable(system: System) -> None:
    value = ctypes.c_uint64()
    assert system.ioctl(KVM_HAS_DEVICE_ATTR, attribute()) == 0
    assert system.ioctl(KVM_GET_DEVICE_ATTR, attribute(value=value)) == 0
    leaf = next(it for it in system.supported_cpuid() if (it.function, it.index) == (XSAVE_LEAF, 0))
    assert value.value == leaf.edx << 32 | leaf.eax
    assert value.value & 3 == 3


def test_attributes_of_the_system_are_not_set(system: System) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_SET_DEVICE_ATTR, attribute(value=ctypes.c_uint64(1)))


@pytest.mark.parametrize("number", [KVM_HAS_DEVICE_ATTR, KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR])
def test_vms_have_no_attributes(vm: Vm, number: int) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(number, attribute())


@pytest.mark.parametrize("number", [KVM_HAS_DEVICE_ATTR, KVM_GET_DEVICE_ATTR])
@pytest.mark.parametrize(("group", "attr"), [(1, 0), (0, 1), (0, 1 << 63), (0xFFFF_FFFF, 0)])
def test_unknown_attributes(system: System, vcpu: Vcpu, number: int, group: int, attr: int) -> None:
    holders: tuple[Descriptor, ...] = (system, vcpu)
    for holder in holders:
        with refused(errno.ENXIO):
            holder.ioctl(number, attribute(group, attr, BAD_ADDRESS))


def test_addresses_that_cannot_be_used(system: System, vcpu: Vcpu) -> None:
    before = offset_of(vcpu)
    for holder, number in (
        (system, KVM_GET_DEVICE_ATTR),
        (vcpu, KVM_GET_DEVICE_ATTR),
        (vcpu, KVM_SET_DEVICE_ATTR),
    ):
        with refused(errno.EFAULT):
            holder.ioctl(number, attribute(value=BAD_ADDRESS))
        with refused(errno.EFAULT):
            holder.ioctl(number, BAD_ADDRESS)
    assert offset_of(vcpu) == before


@pytest.mark.parametrize("offset", [0, 1, 1 << 63, (1 << 64) - 1, 0x1234_5678_9ABC], ids=hex)
def test_offset_is_what_was_set(vcpu: Vcpu, offset: int) -> None:
    assert vcpu.ioctl(KVM_HAS_DEVICE_ATTR, attribute()) == 0
    set_offset(vcpu, offset)
    assert offset_of(vcpu) == offset


@pytest.mark.parametrize("offset", [0, 180 * 10**9, -180 * 10**9, 1 << 63], ids=str)
def test_guest_reads_the_hosts_counter_plus_the_offset(machine: Machine, offset: int) -> None:
    machine.load(READ_COUNTER, Mode.LONG)
    set_offset(machine.vcpu, offset % 2**64)
    before = host_tsc(machine.vm)
    machine.vcpu.run()
    after = host_tsc(machine.vm)
    assert 0 <= (machine.vcpu.regs().rax - before - offset) % 2**64 <= after - before


def test_vcpus_begin_with_one_offset(vm: Vm) -> None:
    assert offset_of(vm.create_vcpu(0)) == offset_of(vm.create_vcpu(1))


def test_writing_the_counter_moves_the_offset(vm: Vm, vcpu: Vcpu) -> None:
    before = host_tsc(vm)
    vcpu.set_msrs([(IA32_TSC, 10**15)])
    after = host_tsc(vm)
    assert 0 <= (10**15 - offset_of(vcpu)) % 2**64 - before <= after - before


def test_adjustment_is_kept(vcpu: Vcpu) -> None:
    vcpu.set_msrs([(IA32_TSC_ADJUST, 77)])
    set_offset(vcpu, 10**12)
    assert vcpu.msrs([IA32_TSC_ADJUST]) == [77]
    assert offset_of(vcpu) == 10**12


def test_offset_counts_after_scaling(vm: Vm, vcpu: Vcpu) -> None:
    khz = vcpu.ioctl(KVM_GET_TSC_KHZ)
    vcpu.ioctl(KVM_SET_TSC_KHZ, 2 * khz)
    set_offset(vcpu, 10**18)
    before = host_tsc(vm)
    seen = vcpu.msrs([IA32_TSC])[0]
    after = host_tsc(vm)
    assert 2 * before <= seen - 10**18 <= 2 * after
