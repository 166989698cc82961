"""KVM_GET_MSR_INDEX_LIST: the MSRs that a client saves and restores."""

import ctypes
import errno

import pytest

from kvmshim.abi.ioctls_gen import KVM_GET_MSR_INDEX_LIST
from kvmshim.abi.structs_gen import kvm_msr_list
from tests.kvm import System, Vcpu, Vm, refused, table

MUST_BE_LISTED = {
    "IA32_TIME_STAMP_COUNTER": 0x10,
    "SMI_COUNT": 0x34,
    "IA32_SMBASE": 0x9E,
    "IA32_SYSENTER_CS": 0x174,
    "IA32_SYSENTER_ESP": 0x175,
    "IA32_SYSENTER_EIP": 0x176,
    "STAR": 0xC000_0081,
    "LSTAR": 0xC000_0082,
    "CSTAR": 0xC000_0083,
    "FMASK": 0xC000_0084,
    "KERNEL_GS_BASE": 0xC000_0102,
}


def count(system: System) -> int:
    """The number of MSRs, from the answer to a list without room."""
    header = kvm_msr_list(nmsrs=0)
    with refused(errno.E2BIG):
        system.ioctl(KVM_GET_MSR_INDEX_LIST, header)
    return header.nmsrs


@pytest.mark.parametrize("index", MUST_BE_LISTED.values(), ids=MUST_BE_LISTED)
def test_msr_is_listed(system: System, index: int) -> None:
    assert index in system.msr_indexes()


def test_no_msr_is_listed_twice(system: System) -> None:
    listed = system.msr_indexes()
    assert len(listed) == len(set(listed))


def test_every_listed_msr_can_be_read(system: System, vcpu: Vcpu) -> None:
    listed = system.msr_indexes()
    assert len(vcpu.msrs(listed)) == len(listed)


def test_every_listed_msr_takes_its_own_value(system: System, vcpu: Vcpu) -> None:
    listed = system.msr_indexes()
    values = list(zip(listed, vcpu.msrs(listed), strict=True))
    assert vcpu.set_msrs(values) == len(listed)


def test_too_little_room_is_refused_with_the_number_needed(system: System) -> None:
    number = count(system)
    raw = table(kvm_msr_list(nmsrs=number - 1), [ctypes.c_uint32()] * number)
    with refused(errno.E2BIG):
        system.ioctl(KVM_GET_MSR_INDEX_LIST, raw)
    assert kvm_msr_list.from_buffer(raw).nmsrs == number


def test_more_room_than_needed_is_reported_as_used(system: System) -> None:
    number = count(system)
    raw = table(kvm_msr_list(nmsrs=number + 7), [ctypes.c_uint32()] * (number + 7))
    system.ioctl(KVM_GET_MSR_INDEX_LIST, raw)
    assert kvm_msr_list.from_buffer(raw).nmsrs == number


def test_vm_has_no_list(vm: Vm) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_GET_MSR_INDEX_LIST, kvm_msr_list())


def test_vcpu_has_no_list(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_GET_MSR_INDEX_LIST, kvm_msr_list())
