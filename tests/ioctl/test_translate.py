"""KVM_TRANSLATE: linear addresses by the guest's page tables."""

import errno

import pytest

from kvmshim.abi.ioctls_gen import KVM_TRANSLATE
from kvmshim.abi.structs_gen import kvm_translation
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import PAGE_DIRECTORY, Machine, Mode

NOWHERE = (1 << 64) - 1
ACCESSED = 1 << 5


def translate(vcpu: Vcpu, address: int) -> kvm_translation:
    translation = kvm_translation(linear_address=address)
    vcpu.ioctl(KVM_TRANSLATE, translation)
    return translation


def test_without_paging_an_address_is_its_own(vcpu: Vcpu) -> None:
    found = translate(vcpu, 0x1_0123)
    expected = kvm_translation(
        linear_address=0x1_0123, physical_address=0x1_0123, valid=1, writeable=1
    )
    assert bytes(found) == bytes(expected)


def test_last_address_is_nowhere(vcpu: Vcpu) -> None:
    found = translate(vcpu, NOWHERE)
    assert (found.valid, found.physical_address) == (0, NOWHERE)


@pytest.fixture
def long_mode(machine: Machine) -> Machine:
    """Two MiB from 0x200000 on lie at 0x40000000, the next two nowhere."""
    machine.load("hlt", Mode.LONG)
    machine.ram.write(PAGE_DIRECTORY + 8, (0x4000_0083).to_bytes(8, "little"))
    machine.ram.write(PAGE_DIRECTORY + 16, bytes(8))
    return machine


def test_page_offset_is_kept(long_mode: Machine) -> None:
    found = translate(long_mode.vcpu, 0x2A_BCDE)
    assert (found.valid, found.physical_address) == (1, 0x400A_BCDE)


@pytest.mark.parametrize("address", [0x40_0000, 0x4000_0000, 1 << 47, 1 << 62, NOWHERE], ids=hex)
def test_what_is_not_mapped_is_nowhere(long_mode: Machine, address: int) -> None:
    found = translate(long_mode.vcpu, address)
    assert (found.valid, found.physical_address) == (0, NOWHERE)
    assert found.linear_address == address


def test_accessed_bits_stay(long_mode: Machine) -> None:
    translate(long_mode.vcpu, 0x20_0000)
    assert not long_mode.peek(PAGE_DIRECTORY + 8, 8) & ACCESSED


def test_only_a_vcpu_translates(system: System, vm: Vm) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_TRANSLATE, kvm_translation())
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_TRANSLATE, kvm_translation())
