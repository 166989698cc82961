"""KVM_X86_GET_MCE_CAP_SUPPORTED, KVM_X86_SETUP_MCE, KVM_X86_SET_MCE: machine checks."""

import errno
from ctypes import c_uint64
from typing import Final

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_X86_GET_MCE_CAP_SUPPORTED,
    KVM_X86_SET_MCE,
    KVM_X86_SETUP_MCE,
)
from kvmshim.abi.msr_index import (
    MSR_IA32_MC0_CTL,
    MSR_IA32_MCG_CAP,
    MSR_IA32_MCG_CTL,
    MSR_IA32_MCG_STATUS,
)
from kvmshim.abi.structs_gen import kvm_x86_mce
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import Machine, Mode

CTL_P, CMCI_P, SER_P = 1 << 8, 1 << 10, 1 << 24
VAL, OVER, UC, PCC = 1 << 63, 1 << 62, 1 << 61, 1 << 57
MCIP: Final = 1 << 2
ALL: Final = (1 << 64) - 1
BANKS: Final = 10
CR4_MCE: Final = 1 << 6


def setup(vcpu: Vcpu, capability: int = BANKS | CTL_P | SER_P) -> None:
    vcpu.ioctl(KVM_X86_SETUP_MCE, c_uint64(capability))


def cmci(system: System) -> int:
    """Interrupts of corrected errors, which Intel's processors have."""
    leaf = next(entry for entry in system.supported_cpuid() if entry.function == 0)
    return CMCI_P if leaf.ebx == int.from_bytes(b"Genu", "little") else 0


def error(status: int, *, bank: int = 3, mcg_status: int = 0) -> kvm_x86_mce:
    return kvm_x86_mce(status=status, addr=0x1234_5000, misc=0x8C, mcg_status=mcg_status, bank=bank)


def bank(vcpu: Vcpu, number: int = 3) -> list[int]:
    """CTL, STATUS, ADDR, MISC."""
    return vcpu.msrs([MSR_IA32_MC0_CTL + 4 * number + part for part in range(4)])


@pytest.fixture
def machine(machine: Machine) -> Machine:
    """With ten banks, and a guest that takes #MC in EBX."""
    machine.load("hlt; hlt", Mode.PROTECTED)
    machine.handle(18, "inc ebx; hlt", Mode.PROTECTED)
    sregs = machine.vcpu.sregs()
    sregs.cr4 |= CR4_MCE
    machine.vcpu.set_sregs(sregs)
    machine.vcpu.change_regs(rbx=0)
    setup(machine.vcpu)
    return machine


def test_capability_tells_the_banks(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_MCE) == 32


def test_supported_capabilities(system: System) -> None:
    found = c_uint64()
    system.ioctl(KVM_X86_GET_MCE_CAP_SUPPORTED, found)
    assert found.value == CTL_P | SER_P | cmci(system)


@pytest.mark.parametrize("banks", [1, BANKS, 32])
def test_set_up_switches_reporting_on(vcpu: Vcpu, banks: int) -> None:
    setup(vcpu, banks | CTL_P)
    assert vcpu.msrs([MSR_IA32_MCG_CAP, MSR_IA32_MCG_CTL]) == [banks | CTL_P, ALL]
    assert bank(vcpu, banks - 1) == [ALL, 0, 0, 0]


def test_interrupts_of_corrected_errors_are_there_if_supported(system: System, vcpu: Vcpu) -> None:
    if cmci(system):
        setup(vcpu, BANKS | CMCI_P)
        assert vcpu.msrs([MSR_IA32_MCG_CAP]) == [BANKS | CMCI_P]
        return
    with refused(errno.EINVAL):
        setup(vcpu, BANKS | CMCI_P)


@pytest.mark.parametrize("capability", [0, 33, 255, BANKS | 1 << 9, BANKS | 1 << 63])
def test_set_up_refuses_what_is_not_there(vcpu: Vcpu, capability: int) -> None:
    before = vcpu.msrs([MSR_IA32_MCG_CAP])
    with refused(errno.EINVAL):
        setup(vcpu, capability)
    assert vcpu.msrs([MSR_IA32_MCG_CAP]) == before


def test_corrected_error_is_stored_silently(machine: Machine) -> None:
    machine.vcpu.ioctl(KVM_X86_SET_MCE, error(VAL | 0x11))
    assert bank(machine.vcpu) == [ALL, VAL | 0x11, 0x1234_5000, 0x8C]
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rbx == 0


def test_uncorrected_error_raises_machine_check(machine: Machine) -> None:
    machine.vcpu.ioctl(KVM_X86_SET_MCE, error(VAL | UC | PCC, mcg_status=MCIP))
    assert bank(machine.vcpu)[1] == VAL | UC | PCC
    assert machine.vcpu.msrs([MSR_IA32_MCG_STATUS]) == [MCIP]
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rbx == 1


def test_uncorrected_error_without_action_is_stored(machine: Machine) -> None:
    machine.vcpu.ioctl(KVM_X86_SET_MCE, error(VAL | UC | 0x22))
    assert bank(machine.vcpu)[1] == VAL | UC | 0x22
    machine.vcpu.run()
    assert machine.vcpu.regs().rbx == 0


def test_second_machine_check_at_a_time_shuts_down(machine: Machine) -> None:
    for _ in range(2):
        machine.vcpu.ioctl(KVM_X86_SET_MCE, error(VAL | UC | PCC, mcg_status=MCIP))
    assert machine.vcpu.run() == kvm.KVM_EXIT_SHUTDOWN


def test_guest_that_takes_no_machine_check_shuts_down(machine: Machine) -> None:
    sregs = machine.vcpu.sregs()
    sregs.cr4 &= ~CR4_MCE
    machine.vcpu.set_sregs(sregs)
    machine.vcpu.ioctl(KVM_X86_SET_MCE, error(VAL | UC | PCC, mcg_status=MCIP))
    assert machine.vcpu.run() == kvm.KVM_EXIT_SHUTDOWN


def test_error_that_is_not_reported_is_dropped(machine: Machine) -> None:
    for switch in (MSR_IA32_MCG_CTL, MSR_IA32_MC0_CTL + 4 * 3):
        machine.vcpu.set_msrs([(switch, 0)])
        machine.vcpu.ioctl(KVM_X86_SET_MCE, error(VAL | UC | PCC, mcg_status=MCIP))
        assert bank(machine.vcpu)[1:] == [0, 0, 0]
        machine.vcpu.set_msrs([(switch, ALL)])


def test_errors_that_pile_up_are_marked(machine: Machine) -> None:
    machine.vcpu.ioctl(KVM_X86_SET_MCE, error(VAL | 1))
    machine.vcpu.ioctl(KVM_X86_SET_MCE, error(VAL | 2))
    assert bank(machine.vcpu)[1] == VAL | OVER | 2
    machine.vcpu.ioctl(KVM_X86_SET_MCE, error(VAL | UC | 3))
    machine.vcpu.ioctl(KVM_X86_SET_MCE, error(VAL | 4))
    assert bank(machine.vcpu)[1] == VAL | UC | OVER | 3


@pytest.mark.parametrize(
    "wrong", [error(0), error(UC | PCC), error(VAL, bank=BANKS), error(VAL, bank=255)]
)
def test_no_such_bank_or_no_valid_error(machine: Machine, wrong: kvm_x86_mce) -> None:
    with refused(errno.EINVAL):
        machine.vcpu.ioctl(KVM_X86_SET_MCE, wrong)


def test_others_have_no_machine_checks(system: System, vm: Vm) -> None:
    for number in (KVM_X86_SETUP_MCE, KVM_X86_SET_MCE):
        with refused(errno.EINVAL):
            system.ioctl(number, kvm_x86_mce())
        with refused(errno.ENOTTY):
            vm.ioctl(number, kvm_x86_mce())
