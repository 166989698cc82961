"""KVM_GET_API_VERSION: 12, for ever; programs refuse to run on anything else."""

import errno

import pytest

from kvmshim.abi.ioctls_gen import KVM_GET_API_VERSION
from tests.kvm import System, Vcpu, Vm, refused


def test_version_is_12(system: System) -> None:
    assert system.ioctl(KVM_GET_API_VERSION) == 12


@pytest.mark.parametrize("argument", [1, 12, (1 << 64) - 1])
def test_an_argument_is_refused(system: System, argument: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_GET_API_VERSION, argument)


def test_vm_does_not_know_the_version(vm: Vm) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_GET_API_VERSION)


def test_vcpu_does_not_know_the_version(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_GET_API_VERSION)
