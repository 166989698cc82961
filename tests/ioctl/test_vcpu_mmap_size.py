"""KVM_GET_VCPU_MMAP_SIZE, and the mapping it sizes: kvm_run, the port data, the coalesced ring."""

import ctypes
import errno

import pytest

from kvmshim.abi.ioctls_gen import KVM_GET_VCPU_MMAP_SIZE
from kvmshim.abi.structs_gen import kvm_run
from tests.kvm import PAGE_SIZE, System, Vcpu, Vm, refused


def test_size_is_three_pages(system: System) -> None:
    assert system.vcpu_mmap_size() == 3 * PAGE_SIZE


def test_fresh_mapping_is_zero(vcpu: Vcpu) -> None:
    assert ctypes.string_at(vcpu.run_address, vcpu.run_size) == bytes(vcpu.run_size)


def test_every_page_can_be_written(vcpu: Vcpu) -> None:
    pattern = bytes(range(256)) * (vcpu.run_size // 256)
    ctypes.memmove(vcpu.run_address, pattern, vcpu.run_size)
    assert ctypes.string_at(vcpu.run_address, vcpu.run_size) == pattern


def test_two_mappings_show_one_page(vcpu: Vcpu) -> None:
    second = kvm_run.from_address(vcpu.map_run())
    second.immediate_exit = 1
    assert vcpu.state.immediate_exit == 1


def test_mapping_made_after_writing_shows_what_was_written(vcpu: Vcpu) -> None:
    vcpu.state.request_interrupt_window = 1
    assert kvm_run.from_address(vcpu.map_run()).request_interrupt_window == 1


def test_vcpus_have_separate_mappings(vm: Vm) -> None:
    first, second = vm.create_vcpu(0), vm.create_vcpu(1)
    first.state.immediate_exit = 1
    assert second.state.immediate_exit == 0


@pytest.mark.parametrize("argument", [1, (1 << 64) - 1])
def test_an_argument_is_refused(system: System, argument: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_GET_VCPU_MMAP_SIZE, argument)


def test_vm_does_not_know_the_size(vm: Vm) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_GET_VCPU_MMAP_SIZE)


def test_vcpu_does_not_know_the_size(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_GET_VCPU_MMAP_SIZE)
