"""KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS: DR0 to DR3, DR6, DR7."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS
from kvmshim.abi.structs_gen import kvm_debugregs
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import Machine, Mode

DR6_FIXED = 0xFFFF_0FF0
DR7_FIXED = 0x400


def debugregs(vcpu: Vcpu) -> kvm_debugregs:
    found = kvm_debugregs()
    vcpu.ioctl(KVM_GET_DEBUGREGS, found)
    return found


def test_capability_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_DEBUGREGS) == 1


def test_power_on_state(vcpu: Vcpu) -> None:
    expected = kvm_debugregs(dr6=DR6_FIXED, dr7=DR7_FIXED)
    assert bytes(debugregs(vcpu)) == bytes(expected)


def test_set_then_get_is_the_identity(vcpu: Vcpu) -> None:
    registers = kvm_debugregs(dr6=DR6_FIXED | 0x400F, dr7=DR7_FIXED | 0xFFFF_0055)
    registers.db[:] = [0x1000, 0xFFFF_8000_0000_0000, (1 << 64) - 1, 3]
    vcpu.ioctl(KVM_SET_DEBUGREGS, registers)
    assert bytes(debugregs(vcpu)) == bytes(registers)


def test_fixed_bits_stay(vcpu: Vcpu) -> None:
    vcpu.ioctl(KVM_SET_DEBUGREGS, kvm_debugregs())
    found = debugregs(vcpu)
    assert (found.dr6, found.dr7) == (DR6_FIXED, DR7_FIXED)


@pytest.mark.parametrize("field", ["dr6", "dr7"])
@pytest.mark.parametrize("value", [1 << 32, 1 << 63], ids=hex)
def test_upper_halves_are_refused(vcpu: Vcpu, field: str, value: int) -> None:
    wrong = kvm_debugregs(dr6=DR6_FIXED, dr7=DR7_FIXED)
    wrong.db[:] = [1, 2, 3, 4]
    setattr(wrong, field, getattr(wrong, field) | value)
    before = bytes(debugregs(vcpu))
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_SET_DEBUGREGS, wrong)
    assert bytes(debugregs(vcpu)) == before


def test_flags_are_refused(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_SET_DEBUGREGS, kvm_debugregs(dr6=DR6_FIXED, dr7=DR7_FIXED, flags=1))


def test_guest_meets_the_breakpoint(machine: Machine) -> None:
    machine.load("mov dword ptr [0x4000], 5; nop; hlt", Mode.PROTECTED)
    machine.handle(1, "mov ebx, dr6; hlt", Mode.PROTECTED)
    registers = kvm_debugregs(dr6=DR6_FIXED, dr7=DR7_FIXED | 0xD_0001)
    registers.db[0] = 0x4000
    machine.vcpu.ioctl(KVM_SET_DEBUGREGS, registers)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rbx == DR6_FIXED | 1


def test_guest_writes_are_seen(machine: Machine) -> None:
    machine.load("mov eax, 0x12345678; mov dr2, eax; hlt", Mode.PROTECTED)
    machine.vcpu.run()
    assert list(debugregs(machine.vcpu).db) == [0, 0, 0x1234_5678, 0]


@pytest.mark.parametrize("number", [KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS], ids=hex)
def test_only_a_vcpu_has_them(system: System, vm: Vm, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, kvm_debugregs())
    with refused(errno.ENOTTY):
        vm.ioctl(number, kvm_debugregs())
