"""KVM_CREATE_DEVICE: there is no device, of whatever type."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_CREATE_DEVICE
from kvmshim.abi.structs_gen import kvm_create_device
from tests.kvm import System, Vm, open_descriptors, refused

TYPES = [0, kvm.kvm_device_type_KVM_DEV_TYPE_VFIO, 7, 0xFFFF_FFFF]


@pytest.mark.parametrize("flags", [0, kvm.KVM_CREATE_DEVICE_TEST])
@pytest.mark.parametrize("type_", TYPES, ids=hex)
def test_no_type_is_there(vm: Vm, type_: int, flags: int) -> None:
    before = open_descriptors()
    with refused(errno.ENODEV):
        vm.ioctl(KVM_CREATE_DEVICE, kvm_create_device(type_=type_, flags=flags))
    assert open_descriptors() == before


def test_system_makes_none(system: System) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_CREATE_DEVICE, kvm_create_device())
