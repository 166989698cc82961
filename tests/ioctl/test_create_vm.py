"""KVM_CREATE_VM: a new fd in the caller, for type 0 only."""

import errno
import fcntl
import os
import resource
from collections.abc import Iterator

import pytest

from kvmshim.abi.ioctls_gen import KVM_CREATE_VM
from tests.kvm import System, Vcpu, Vm, open_descriptors, refused


@pytest.fixture
def no_free_descriptor(system: System) -> Iterator[None]:  # noqa: ARG001
    """The limit of open files lies at the lowest free number once the device is open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptor_is_closed_on_exec(vm: Vm) -> None:
    assert fcntl.fcntl(vm.fd, fcntl.F_GETFD) == fcntl.FD_CLOEXEC


def test_descriptor_is_read_write(vm: Vm) -> None:
    assert fcntl.fcntl(vm.fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


def test_descriptor_is_named_as_kvm_names_it(vm: Vm) -> None:
    assert "kvm-vm" in os.readlink(f"/proc/self/fd/{vm.fd}")


def test_each_call_makes_another_vm(system: System) -> None:
    vms = [system.create_vm() for _ in range(8)]
    assert len({vm.fd for vm in vms}) == 8
    assert len({vm.create_vcpu(0).fd for vm in vms}) == 8


def test_no_other_descriptor_is_left_in_the_caller(system: System) -> None:
    before = open_descriptors()
    vm = system.create_vm()
    assert open_descriptors() - before == {vm.fd}


@pytest.mark.parametrize("vm_type", [2, 3, 0xFFFF_FFFF, (1 << 64) - 1], ids=hex)
def test_other_types_are_refused(system: System, vm_type: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_CREATE_VM, vm_type)


@pytest.mark.usefixtures("no_free_descriptor")
def test_full_descriptor_table_is_emfile(system: System) -> None:
    with refused(errno.EMFILE):
        system.ioctl(KVM_CREATE_VM)


def test_vm_does_not_make_vms(vm: Vm) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_CREATE_VM)


def test_vcpu_does_not_make_vms(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_CREATE_VM)
