"""Interrupts of corrected machine checks (CMCI), which KVM has for Intel's processors."""

import errno
from collections.abc import Iterator
from ctypes import c_uint64
from pathlib import Path
from typing import Final

import pytest

from kvmshim.abi.ioctls_gen import (
    KVM_CREATE_IRQCHIP,
    KVM_GET_VCPU_EVENTS,
    KVM_X86_GET_MCE_CAP_SUPPORTED,
    KVM_X86_SET_MCE,
    KVM_X86_SETUP_MCE,
)
from kvmshim.abi.structs_gen import kvm_vcpu_events, kvm_x86_mce
from tests.kvm import System, refused
from tests.machine import RAM_SIZE, Machine, Mode
from tests.server import serving

CMCI_P: Final = 1 << 10
CMCI_EN: Final = 1 << 30
BANKS: Final = 10
BANK: Final = 7
UCNA: Final = 1 << 63 | 1 << 61 | 0x10090
CTL2: Final = 0x280 + BANK
LVT_CMCI: Final = 0xFEE0_02F0
SPURIOUS: Final = 0xFEE0_00F0
VERSION: Final = 0xFEE0_0030
VECTOR: Final = 0xA9
NMI_MODE: Final = 0x400


@pytest.fixture(scope="module")
def intel_path() -> Iterator[Path]:
    with serving("--cpu", "intel") as server:
        yield server.path


@pytest.fixture
def intel(intel_path: Path, guarded: None) -> Iterator[System]:  # noqa: ARG001
    system = System(intel_path)
    yield system
    system.close()


@pytest.fixture
def machine(intel: System) -> Machine:
    """A vCPU with a local APIC and ten banks."""
    vm = intel.create_vm()
    vm.ioctl(KVM_CREATE_IRQCHIP)
    ram = vm.add_region(slot=0, gpa=0, size=RAM_SIZE)
    machine = Machine(vm, vm.create_vcpu(0), ram)
    machine.vcpu.ioctl(KVM_X86_SETUP_MCE, c_uint64(BANKS | CMCI_P))
    return machine


def load(machine: Machine, entry: int) -> None:
    """A guest that enables the APIC and its entry, then waits at port 0x80 with interrupts on."""
    setup = f"mov dword ptr [{SPURIOUS:#x}], 0x1FF; mov dword ptr [{LVT_CMCI:#x}], {entry:#x};"
    machine.load(f"{setup} sti; out 0x80, al; out 0x81, al", Mode.PROTECTED)
    for vector in (VECTOR, 2):
        machine.handle(vector, f"out {vector:#x}, al; iret", Mode.PROTECTED)
    assert machine.vcpu.port() == 0x80


def inject(machine: Machine) -> None:
    machine.vcpu.ioctl(KVM_X86_SET_MCE, kvm_x86_mce(status=UCNA, bank=BANK, addr=0xDEAD_B000))


def test_capability_is_supported(intel: System) -> None:
    found = c_uint64()
    intel.ioctl(KVM_X86_GET_MCE_CAP_SUPPORTED, found)
    assert found.value & CMCI_P


def test_error_interrupts_the_guest(machine: Machine) -> None:
    load(machine, VECTOR)
    machine.vcpu.set_msrs([(CTL2, CMCI_EN)])
    inject(machine)
    assert machine.vcpu.port() == VECTOR
    assert machine.vcpu.msrs([0x400 + 4 * BANK + 2]) == [0xDEAD_B000]


def test_entry_says_how(machine: Machine) -> None:
    load(machine, NMI_MODE)
    machine.vcpu.set_msrs([(CTL2, CMCI_EN)])
    inject(machine)
    found = kvm_vcpu_events()
    machine.vcpu.ioctl(KVM_GET_VCPU_EVENTS, found)
    assert found.nmi.pending
    assert machine.vcpu.port() == 2


@pytest.mark.parametrize(("entry", "ctl2"), [(VECTOR, 0), (VECTOR | 1 << 16, CMCI_EN)])
def test_error_is_stored_silently(machine: Machine, entry: int, ctl2: int) -> None:
    load(machine, entry)
    machine.vcpu.set_msrs([(CTL2, ctl2)])
    inject(machine)
    assert machine.vcpu.port() == 0x81
    assert machine.vcpu.msrs([0x400 + 4 * BANK + 1]) == [UCNA]


def test_capability_brings_an_entry_of_the_apic(machine: Machine) -> None:
    for capability, version in ((BANKS | CMCI_P, 0x6_0014), (BANKS, 0x5_0014)):
        machine.vcpu.ioctl(KVM_X86_SETUP_MCE, c_uint64(capability))
        machine.load(f"mov eax, [{VERSION:#x}]; out 0x80, al", Mode.PROTECTED)
        assert machine.vcpu.port() == 0x80
        assert machine.vcpu.regs().rax == version


def test_second_control_goes_with_the_capability(machine: Machine) -> None:
    assert machine.vcpu.set_msrs([(CTL2, CMCI_EN | 0x7FFF)]) == 1
    assert machine.vcpu.set_msrs([(CTL2, 1 << 29)]) == 0
    machine.vcpu.ioctl(KVM_X86_SETUP_MCE, c_uint64(BANKS))
    assert machine.vcpu.msrs([CTL2]) == [0]
    assert machine.vcpu.set_msrs([(CTL2, CMCI_EN)]) == 0


def test_error_without_an_apic_is_stored(intel: System) -> None:
    machine = Machine.of(intel)
    machine.vcpu.ioctl(KVM_X86_SETUP_MCE, c_uint64(BANKS | CMCI_P))
    machine.vcpu.set_msrs([(CTL2, CMCI_EN)])
    inject(machine)
    assert machine.vcpu.msrs([0x400 + 4 * BANK + 1]) == [UCNA]


def test_set_up_refuses_more(machine: Machine) -> None:
    with refused(errno.EINVAL):
        machine.vcpu.ioctl(KVM_X86_SETUP_MCE, c_uint64(BANKS | 1 << 9))
