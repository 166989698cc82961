"""Numbers that a descriptor does not know: ENOTTY from a VM fd, EINVAL from the others."""

import errno

import pytest

from kvmshim.abi import ioctls_gen as nr
from tests.kvm import Region, System, Vcpu, Vm, refused

KVMIO = 0xAE


def io_number(direction: int, size: int, number: int, kind: int = KVMIO) -> int:
    """As `_IOC` makes it: direction 1 is a write of the caller, 2 a read."""
    return direction << 30 | size << 16 | kind << 8 | number


UNKNOWN = {
    "no such number": io_number(0, 0, 0xFF),
    "no such number, written": io_number(1, 64, 0xFE),
    "no such number, read": io_number(2, 64, 0xFD),
    "number 0 of another device": io_number(0, 0, 0x00, kind=ord("V")),
    "KVM_GET_REGS of another size": io_number(2, 8, 0x81),
    "KVM_GET_REGS of another direction": io_number(1, 144, 0x81),
    "KVM_CREATE_VM with a size": io_number(2, 8, 0x01),
    "KVM_SET_USER_MEMORY_REGION of another size": io_number(1, 24, 0x46),
    "all bits": 0xFFFF_FFFF & ~(0x2000 << 16),
}
SYSTEM = [nr.KVM_CREATE_VM, nr.KVM_GET_VCPU_MMAP_SIZE, nr.KVM_GET_API_VERSION]
VCPU = [nr.KVM_RUN, nr.KVM_GET_REGS, nr.KVM_SET_REGS, nr.KVM_GET_SREGS, nr.KVM_GET_MP_STATE]


@pytest.mark.parametrize("number", UNKNOWN.values(), ids=UNKNOWN)
def test_system_answers_einval(system: System, memory: Region, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, memory.address)


@pytest.mark.parametrize("number", UNKNOWN.values(), ids=UNKNOWN)
def test_vm_answers_enotty(vm: Vm, memory: Region, number: int) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(number, memory.address)


@pytest.mark.parametrize("number", UNKNOWN.values(), ids=UNKNOWN)
def test_vcpu_answers_einval(vcpu: Vcpu, memory: Region, number: int) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(number, memory.address)


@pytest.mark.parametrize("number", [*SYSTEM, *VCPU], ids=hex)
def test_vm_answers_enotty_to_what_others_know(vm: Vm, memory: Region, number: int) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(number, memory.address)


@pytest.mark.parametrize("number", [nr.KVM_CREATE_VCPU, *VCPU], ids=hex)
def test_system_answers_einval_to_what_others_know(
    system: System, memory: Region, number: int
) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, memory.address)


@pytest.mark.parametrize("number", [nr.KVM_CREATE_VCPU, *SYSTEM], ids=hex)
def test_vcpu_answers_einval_to_what_others_know(vcpu: Vcpu, memory: Region, number: int) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(number, memory.address)


def test_vm_still_works_after_unknown_numbers(vm: Vm, memory: Region) -> None:
    for number in UNKNOWN.values():
        with refused(errno.ENOTTY):
            vm.ioctl(number, memory.address)
    assert vm.create_vcpu(0).regs().rip == 0xFFF0
