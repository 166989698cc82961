"""KVM_GET_EMULATED_CPUID: what is there although the CPU may not have it."""

import errno
from typing import Final

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_EMULATED_CPUID
from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from tests.kvm import System, Vm, cpuid_entries, cpuid_table, refused

BIT_22: Final = 1 << 22


def emulated(system: System, room: int) -> list[kvm_cpuid_entry2]:
    raw = cpuid_table([kvm_cpuid_entry2()] * room)
    system.ioctl(KVM_GET_EMULATED_CPUID, raw)
    return cpuid_entries(raw)


def test_capability_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_EXT_EMUL_CPUID) == 1


@pytest.mark.parametrize("room", [3, 4, 100, 256])
def test_leaves_fit(system: System, room: int) -> None:
    assert [leaf.function for leaf in emulated(system, room)] == [0, 1, 7]


def test_nothing_is_in_it_that_is_not_supported(system: System) -> None:
    supported = {leaf.function: leaf for leaf in system.supported_cpuid() if leaf.index == 0}
    for leaf in emulated(system, 10)[1:]:
        assert leaf.ecx & ~supported[leaf.function].ecx == 0
        assert leaf.ecx & ~BIT_22 == 0


@pytest.mark.parametrize("room", [0, 1, 2])
def test_too_little_room(system: System, room: int) -> None:
    with refused(errno.E2BIG):
        emulated(system, room)


def test_padding_has_to_be_clean(system: System) -> None:
    dirty = kvm_cpuid_entry2()
    dirty.padding[2] = 1
    with refused(errno.EINVAL):
        system.ioctl(KVM_GET_EMULATED_CPUID, cpuid_table([kvm_cpuid_entry2()] * 9 + [dirty]))


def test_vm_has_none(vm: Vm) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_GET_EMULATED_CPUID, cpuid_table([kvm_cpuid_entry2()]))
