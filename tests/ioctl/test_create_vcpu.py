"""KVM_CREATE_VCPU: a new fd for each id below KVM_CAP_MAX_VCPU_ID, once in a VM."""

import errno
import fcntl
import os

import pytest

from kvmshim.abi.constants_gen import KVM_CAP_MAX_VCPU_ID
from kvmshim.abi.ioctls_gen import KVM_CREATE_VCPU, KVM_CREATE_VM, KVM_GET_REGS
from kvmshim.abi.structs_gen import kvm_regs
from tests.kvm import System, Vcpu, Vm, ioctl, open_descriptors, refused


def test_descriptor_is_closed_on_exec(vcpu: Vcpu) -> None:
    assert fcntl.fcntl(vcpu.fd, fcntl.F_GETFD) == fcntl.FD_CLOEXEC


def test_descriptor_is_named_as_kvm_names_it(vm: Vm) -> None:
    assert "kvm-vcpu:5" in os.readlink(f"/proc/self/fd/{vm.create_vcpu(5).fd}")


def test_ids_need_no_order(vm: Vm) -> None:
    assert len({vm.create_vcpu(vcpu_id).fd for vcpu_id in (7, 0, 300, 2)}) == 4


def test_largest_id_is_accepted(system: System, vm: Vm) -> None:
    assert vm.create_vcpu(system.check_extension(KVM_CAP_MAX_VCPU_ID) - 1).regs().rflags == 2


def test_id_may_be_used_in_another_vm(system: System, vcpu: Vcpu) -> None:
    assert system.create_vm().create_vcpu(0).fd != vcpu.fd


def test_no_other_descriptor_is_left_in_the_caller(vm: Vm) -> None:
    before = open_descriptors()
    vcpu = vm.create_vcpu(0)
    assert open_descriptors() - before == {vcpu.fd}


def test_vcpu_outlives_the_descriptor_of_its_vm(system: System) -> None:
    vm = system.ioctl(KVM_CREATE_VM)
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)
    system.owned.callback(os.close, vcpu)
    os.close(vm)
    regs = kvm_regs()
    ioctl(vcpu, KVM_GET_REGS, regs)
    assert regs.rip == 0xFFF0


def test_id_stays_taken_after_the_descriptor_is_closed(vm: Vm) -> None:
    os.close(vm.ioctl(KVM_CREATE_VCPU, 3))
    with refused(errno.EEXIST):
        vm.ioctl(KVM_CREATE_VCPU, 3)


def test_same_id_twice_is_refused(vm: Vm) -> None:
    vm.create_vcpu(1)
    with refused(errno.EEXIST):
        vm.ioctl(KVM_CREATE_VCPU, 1)


def test_id_at_the_limit_is_refused(system: System, vm: Vm) -> None:
    with refused(errno.EINVAL):
        vm.ioctl(KVM_CREATE_VCPU, system.check_extension(KVM_CAP_MAX_VCPU_ID))


def test_only_32_bits_of_an_id_count(vm: Vm) -> None:
    vm.create_vcpu(1 << 32 | 5)
    with refused(errno.EEXIST):
        vm.ioctl(KVM_CREATE_VCPU, 5)


@pytest.mark.parametrize("vcpu_id", [0x7FFF_FFFF, 0xFFFF_FFFF], ids=hex)
def test_id_far_out_of_range_is_refused(vm: Vm, vcpu_id: int) -> None:
    with refused(errno.EINVAL):
        vm.ioctl(KVM_CREATE_VCPU, vcpu_id)


def test_refusal_leaves_the_id_free(system: System, vm: Vm) -> None:
    with refused(errno.EINVAL):
        vm.ioctl(KVM_CREATE_VCPU, system.check_extension(KVM_CAP_MAX_VCPU_ID))
    assert vm.create_vcpu(0).regs().rip == 0xFFF0


def test_system_does_not_make_vcpus(system: System) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_CREATE_VCPU, 0)


def test_vcpu_does_not_make_vcpus(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_CREATE_VCPU, 1)
