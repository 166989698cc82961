"""Pointers that lead nowhere: EFAULT from every ioctl that takes one, and nothing is changed."""

import ctypes
import errno
import mmap
from collections.abc import Callable, Iterator

import pytest

from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi import structs_gen as abi
from tests.kvm import PAGE_SIZE, PROT_NONE, Descriptor, Region, Vcpu, refused
from tests.machine import Machine

READS = {
    "GET_REGS": nr.KVM_GET_REGS,
    "GET_SREGS": nr.KVM_GET_SREGS,
    "GET_FPU": nr.KVM_GET_FPU,
    "GET_MP_STATE": nr.KVM_GET_MP_STATE,
    "GET_XSAVE": nr.KVM_GET_XSAVE,
    "GET_XSAVE2": nr.KVM_GET_XSAVE2,
    "GET_XCRS": nr.KVM_GET_XCRS,
    "GET_DEBUGREGS": nr.KVM_GET_DEBUGREGS,
    "GET_VCPU_EVENTS": nr.KVM_GET_VCPU_EVENTS,
}
WRITES = {
    "SET_REGS": nr.KVM_SET_REGS,
    "SET_SREGS": nr.KVM_SET_SREGS,
    "SET_FPU": nr.KVM_SET_FPU,
    "SET_MP_STATE": nr.KVM_SET_MP_STATE,
    "SET_XSAVE": nr.KVM_SET_XSAVE,
    "SET_XCRS": nr.KVM_SET_XCRS,
    "SET_DEBUGREGS": nr.KVM_SET_DEBUGREGS,
    "SET_VCPU_EVENTS": nr.KVM_SET_VCPU_EVENTS,
    "SET_GUEST_DEBUG": nr.KVM_SET_GUEST_DEBUG,
    "X86_SETUP_MCE": nr.KVM_X86_SETUP_MCE,
    "X86_SET_MCE": nr.KVM_X86_SET_MCE,
    "INTERRUPT": nr.KVM_INTERRUPT,
    "TRANSLATE": nr.KVM_TRANSLATE,
}
LISTS = {
    "GET_MSRS": nr.KVM_GET_MSRS,
    "SET_MSRS": nr.KVM_SET_MSRS,
    "SET_CPUID2": nr.KVM_SET_CPUID2,
    "GET_CPUID2": nr.KVM_GET_CPUID2,
}
OF_VCPU = READS | WRITES | LISTS
OF_SYSTEM = {
    "GET_MSR_INDEX_LIST": nr.KVM_GET_MSR_INDEX_LIST,
    "GET_SUPPORTED_CPUID": nr.KVM_GET_SUPPORTED_CPUID,
    "X86_GET_MCE_CAP_SUPPORTED": nr.KVM_X86_GET_MCE_CAP_SUPPORTED,
    "GET_EMULATED_CPUID": nr.KVM_GET_EMULATED_CPUID,
    "GET_MSR_FEATURE_INDEX_LIST": nr.KVM_GET_MSR_FEATURE_INDEX_LIST,
    "GET_MSRS of the system": nr.KVM_GET_MSRS,
}
OF_VM = {
    "SET_USER_MEMORY_REGION": nr.KVM_SET_USER_MEMORY_REGION,
    "GET_DIRTY_LOG": nr.KVM_GET_DIRTY_LOG,
    "CLEAR_DIRTY_LOG": nr.KVM_CLEAR_DIRTY_LOG,
    "GET_CLOCK": nr.KVM_GET_CLOCK,
    "SET_CLOCK": nr.KVM_SET_CLOCK,
    "ENABLE_CAP": nr.KVM_ENABLE_CAP,
    "X86_SET_MSR_FILTER": nr.KVM_X86_SET_MSR_FILTER,
}

NOWHERE = {
    "null": 0,
    "first page": 8,
    "non-canonical": 1 << 60,
    "kernel half": 0xFFFF_8000_0000_0000,
    "last byte": (1 << 64) - 1,
}


@pytest.fixture
def hole() -> Iterator[Region]:
    """Two pages; the second one may not be touched."""
    region = Region(2 * PAGE_SIZE)
    region.protect(PROT_NONE, offset=PAGE_SIZE, size=PAGE_SIZE)
    yield region
    region.close()


def every_call(machine: Machine, system: Descriptor) -> dict[str, Callable[[int], int]]:
    """All ioctls that take a pointer, by name."""
    owners = [(OF_SYSTEM, system), (OF_VM, machine.vm), (OF_VCPU, machine.vcpu)]
    return {
        name: lambda address, fd=fd, number=number: fd.ioctl(number, address)  # type: ignore[misc]
        for numbers, fd in owners
        for name, number in numbers.items()
    }


ALL = [*OF_SYSTEM, *OF_VM, *OF_VCPU]


@pytest.mark.parametrize("address", NOWHERE.values(), ids=NOWHERE)
@pytest.mark.parametrize("name", ALL)
def test_pointer_to_nowhere(machine: Machine, system: Descriptor, name: str, address: int) -> None:
    with refused(errno.EFAULT):
        every_call(machine, system)[name](address)


@pytest.mark.parametrize("name", ALL)
def test_page_that_may_not_be_touched(
    machine: Machine, system: Descriptor, hole: Region, name: str
) -> None:
    with refused(errno.EFAULT):
        every_call(machine, system)[name](hole.address + PAGE_SIZE)


@pytest.mark.parametrize("name", ALL)
def test_structure_that_begins_well_and_ends_nowhere(
    machine: Machine, system: Descriptor, hole: Region, name: str
) -> None:
    with refused(errno.EFAULT):
        every_call(machine, system)[name](hole.address + PAGE_SIZE - 2)


@pytest.mark.parametrize("number", READS.values(), ids=READS)
def test_result_into_read_only_memory(vcpu: Vcpu, memory: Region, number: int) -> None:
    memory.protect(mmap.PROT_READ, offset=0, size=memory.size)
    with refused(errno.EFAULT):
        vcpu.ioctl(number, memory.address)


@pytest.mark.parametrize("number", LISTS.values(), ids=LISTS)
def test_list_whose_entries_lie_nowhere(vcpu: Vcpu, hole: Region, number: int) -> None:
    vcpu.set_cpuid([abi.kvm_cpuid_entry2(function=0)])
    header = PAGE_SIZE - ctypes.sizeof(abi.kvm_msrs)
    hole.write(header, bytes(abi.kvm_msrs(nmsrs=3)))
    with refused(errno.EFAULT):
        vcpu.ioctl(number, hole.address + header)


def test_supported_cpuid_into_nowhere(system: Descriptor, hole: Region) -> None:
    header = PAGE_SIZE - ctypes.sizeof(abi.kvm_cpuid2)
    hole.write(header, bytes(abi.kvm_cpuid2(nent=256)))
    with refused(errno.EFAULT):
        system.ioctl(nr.KVM_GET_SUPPORTED_CPUID, hole.address + header)


def test_msr_index_list_into_nowhere(system: Descriptor, hole: Region) -> None:
    header = PAGE_SIZE - ctypes.sizeof(abi.kvm_msr_list)
    hole.write(header, bytes(abi.kvm_msr_list(nmsrs=1000)))
    with refused(errno.EFAULT):
        system.ioctl(nr.KVM_GET_MSR_INDEX_LIST, hole.address + header)


@pytest.mark.parametrize("number", WRITES.values(), ids=WRITES)
def test_vcpu_is_unchanged_by_a_bad_pointer(vcpu: Vcpu, hole: Region, number: int) -> None:
    before = bytes(vcpu.regs()), bytes(vcpu.sregs()), bytes(vcpu.fpu()), vcpu.mp_state()
    with refused(errno.EFAULT):
        vcpu.ioctl(number, hole.address + PAGE_SIZE - 2)
    after = bytes(vcpu.regs()), bytes(vcpu.sregs()), bytes(vcpu.fpu()), vcpu.mp_state()
    assert after == before
