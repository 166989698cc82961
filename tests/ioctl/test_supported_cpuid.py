"""KVM_GET_SUPPORTED_CPUID: the leaves a client may announce to its guest."""

import errno

import pytest

from kvmshim.abi.ioctls_gen import KVM_GET_SUPPORTED_CPUID
from kvmshim.abi.structs_gen import kvm_cpuid2, kvm_cpuid_entry2
from tests.kvm import System, Vcpu, Vm, cpuid_entries, cpuid_table, refused

LONG_MODE = 1 << 29
PAE = 1 << 6
MSR = 1 << 5
TSC = 1 << 4


def leaf(system: System, function: int) -> kvm_cpuid_entry2:
    return next(entry for entry in system.supported_cpuid() if entry.function == function)


@pytest.mark.parametrize("function", [0, 1, 0x4000_0000, 0x8000_0000, 0x8000_0001], ids=hex)
def test_leaf_is_there(system: System, function: int) -> None:
    assert function in {entry.function for entry in system.supported_cpuid()}


def test_no_leaf_is_there_twice(system: System) -> None:
    keys = [(entry.function, entry.index) for entry in system.supported_cpuid()]
    assert len(keys) == len(set(keys))


def test_leaf_0_covers_all_basic_leaves(system: System) -> None:
    basic = [e.function for e in system.supported_cpuid() if e.function < 0x4000_0000]
    assert leaf(system, 0).eax >= max(basic)


def test_processor_has_what_a_64_bit_guest_needs(system: System) -> None:
    assert leaf(system, 1).edx & (TSC | MSR | PAE) == TSC | MSR | PAE
    assert leaf(system, 0x8000_0001).edx & LONG_MODE


def test_hypervisor_leaf_carries_the_signature_of_kvm(system: System) -> None:
    entry = leaf(system, 0x4000_0000)
    signature = b"".join(part.to_bytes(4, "little") for part in (entry.ebx, entry.ecx, entry.edx))
    assert signature == b"KVMKVMKVM\0\0\0"


def test_a_vcpu_takes_the_whole_list(system: System, vcpu: Vcpu) -> None:
    vcpu.set_cpuid(system.supported_cpuid())
    assert len(system.supported_cpuid()) > 0


def test_exactly_enough_room_is_enough(system: System) -> None:
    needed = len(system.supported_cpuid())
    raw = cpuid_table([kvm_cpuid_entry2()] * needed)
    system.ioctl(KVM_GET_SUPPORTED_CPUID, raw)
    assert len(cpuid_entries(raw)) == needed


def test_more_than_256_entries_of_room_are_accepted(system: System) -> None:
    raw = cpuid_table([kvm_cpuid_entry2()] * 256, nent=0xFFFF_FFFF)
    system.ioctl(KVM_GET_SUPPORTED_CPUID, raw)
    assert len(cpuid_entries(raw)) == len(system.supported_cpuid())


def test_one_entry_too_few_is_refused(system: System) -> None:
    room = len(system.supported_cpuid()) - 1
    raw = cpuid_table([kvm_cpuid_entry2()] * room)
    with refused(errno.E2BIG):
        system.ioctl(KVM_GET_SUPPORTED_CPUID, raw)
    assert kvm_cpuid2.from_buffer(raw).nent == room


def test_no_room_at_all_is_refused(system: System) -> None:
    with refused(errno.E2BIG):
        system.ioctl(KVM_GET_SUPPORTED_CPUID, cpuid_table([], nent=0))


def test_vm_has_no_list(vm: Vm) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_GET_SUPPORTED_CPUID, cpuid_table([kvm_cpuid_entry2()] * 256))


def test_vcpu_has_no_list(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_GET_SUPPORTED_CPUID, cpuid_table([kvm_cpuid_entry2()] * 256))
