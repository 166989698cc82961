"""KVM_GET_MSR_FEATURE_INDEX_LIST, KVM_GET_MSRS of the system: MSRs that describe the processor."""

import errno
from ctypes import sizeof

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import structs_gen as abi
from kvmshim.abi.ioctls_gen import KVM_GET_MSR_FEATURE_INDEX_LIST, KVM_GET_MSRS
from tests.kvm import System, Vm, msr_table, refused, table


def feature_msrs(system: System) -> list[int]:
    empty = abi.kvm_msr_list()
    with refused(errno.E2BIG):
        system.ioctl(KVM_GET_MSR_FEATURE_INDEX_LIST, empty)
    raw = table(empty, [abi.kvm_msr_list()] * empty.nmsrs)
    system.ioctl(KVM_GET_MSR_FEATURE_INDEX_LIST, raw)
    found = (abi.kvm_msr_list * (empty.nmsrs + 1)).from_buffer(raw)
    return [entry.nmsrs for entry in found][1:]


def read(system: System, indexes: list[int]) -> list[int]:
    raw = msr_table([(index, 0) for index in indexes])
    done = system.ioctl(KVM_GET_MSRS, raw)
    start, size = sizeof(abi.kvm_msrs), sizeof(abi.kvm_msr_entry)
    return [abi.kvm_msr_entry.from_buffer(raw, start + i * size).data for i in range(done)]


def test_capability_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_GET_MSR_FEATURES) == 1


def test_there_are_features(system: System) -> None:
    found = feature_msrs(system)
    assert found
    assert len(set(found)) == len(found)


def test_each_feature_can_be_read(system: System) -> None:
    for index in feature_msrs(system):
        assert len(read(system, [index])) == 1


def test_all_are_read_at_once(system: System) -> None:
    indexes = feature_msrs(system)
    assert read(system, indexes) == [read(system, [index])[0] for index in indexes]


@pytest.mark.parametrize("index", [0xC000_0080, 0x474F_4F00, 0xFFFF_FFFF], ids=hex)
def test_reading_stops_at_what_is_no_feature(system: System, index: int) -> None:
    first = feature_msrs(system)[0]
    assert len(read(system, [first, index, first])) == 1


def test_too_many_at_once_are_refused(system: System) -> None:
    with refused(errno.E2BIG):
        system.ioctl(KVM_GET_MSRS, msr_table([], nmsrs=256))


def test_vm_has_no_features(vm: Vm) -> None:
    for number in (KVM_GET_MSR_FEATURE_INDEX_LIST, KVM_GET_MSRS):
        with refused(errno.ENOTTY):
            vm.ioctl(number, abi.kvm_msr_list())
