"""KVM_GET_REGS, KVM_SET_REGS: general registers, RIP and RFLAGS."""

import errno

import pytest

from kvmshim.abi.ioctls_gen import KVM_GET_REGS, KVM_SET_REGS
from kvmshim.abi.structs_gen import kvm_regs
from tests.kvm import System, Vcpu, Vm, refused

GENERAL = [name for name, _ in kvm_regs._fields_ if name not in ("rip", "rflags")]
VALUES = [0, 1, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0xFFFF_FFFF_FFFF_FFFF]


def test_power_on_values_are_those_of_the_manual(vcpu: Vcpu) -> None:
    regs = vcpu.regs()
    cleared = [getattr(regs, name) for name in GENERAL if name != "rdx"]
    assert (regs.rip, regs.rflags, cleared) == (0xFFF0, 2, [0] * 15)


def test_rdx_holds_the_processor_signature_at_power_on(vcpu: Vcpu) -> None:
    assert vcpu.regs().rdx != 0


@pytest.mark.parametrize("value", VALUES, ids=hex)
@pytest.mark.parametrize("name", [*GENERAL, "rip"])
def test_register_keeps_what_was_set(vcpu: Vcpu, name: str, value: int) -> None:
    vcpu.change_regs(**{name: value})
    assert getattr(vcpu.regs(), name) == value


def test_registers_are_set_together_without_mixing(vcpu: Vcpu) -> None:
    regs = kvm_regs(**{name: 0x1111 * i for i, name in enumerate(GENERAL)}, rip=0x99, rflags=0x246)
    vcpu.set_regs(regs)
    assert bytes(vcpu.regs()) == bytes(regs)


def test_fixed_flag_is_always_set(vcpu: Vcpu) -> None:
    vcpu.change_regs(rflags=0)
    assert vcpu.regs().rflags == 2


def test_vcpus_have_registers_of_their_own(vm: Vm) -> None:
    first, second = vm.create_vcpu(0), vm.create_vcpu(1)
    first.change_regs(rax=1)
    second.change_regs(rax=2)
    assert (first.regs().rax, second.regs().rax) == (1, 2)


@pytest.mark.parametrize("number", [KVM_GET_REGS, KVM_SET_REGS], ids=hex)
def test_vm_has_no_registers(vm: Vm, number: int) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(number, kvm_regs())


@pytest.mark.parametrize("number", [KVM_GET_REGS, KVM_SET_REGS], ids=hex)
def test_system_has_no_registers(system: System, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, kvm_regs())
