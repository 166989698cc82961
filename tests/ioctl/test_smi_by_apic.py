"""SMIs that local APICs deliver, and INIT that waits for the end of system management mode."""

import threading
from typing import Final

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_CREATE_IRQCHIP,
    KVM_GET_VCPU_EVENTS,
    KVM_SET_VCPU_EVENTS,
    KVM_SIGNAL_MSI,
)
from kvmshim.abi.structs_gen import kvm_msi, kvm_vcpu_events
from tests.assembler import assemble
from tests.kvm import System, Vcpu, Vm
from tests.machine import RAM_SIZE, Machine, Mode

SMBASE: Final = 0x30000
ENTRY: Final = 0x8000
ICR: Final = 0xFEE0_0300
SMI: Final = 0x200
INIT: Final = 0x500
ASSERT: Final = 0x4000
TO_ITSELF: Final = 0x4_0000
RESET_PAGE: Final = 0xFFFF_F000


@pytest.fixture
def machine(system: System) -> Machine:
    """A vCPU with a local APIC; its handler leaves by port 0x80, its reset vector by 0x82."""
    vm = system.create_vm()
    vm.ioctl(KVM_CREATE_IRQCHIP)
    ram = vm.add_region(slot=0, gpa=0, size=RAM_SIZE)
    smram = vm.add_region(slot=1 << 16, gpa=SMBASE, size=0x10000)
    smram.write(ENTRY, assemble("out 0x80, al; rsm", bits=16, origin=ENTRY))
    reset = vm.add_region(slot=1, gpa=RESET_PAGE, size=0x1000)
    reset.write(0xFF0, assemble("out 0x82, al", bits=16, origin=0xFFF0))
    return Machine(vm, vm.create_vcpu(0), ram)


def in_smm(vcpu: Vcpu) -> bool:
    return bool(vcpu.state.flags & kvm.KVM_RUN_X86_SMM)


def send(vm: Vm, mode: int) -> None:
    """To the local APIC with ID 0."""
    vm.ioctl(KVM_SIGNAL_MSI, kvm_msi(address_lo=0xFEE0_0000, data=mode | ASSERT))


def events(vcpu: Vcpu) -> kvm_vcpu_events:
    found = kvm_vcpu_events()
    vcpu.ioctl(KVM_GET_VCPU_EVENTS, found)
    return found


def test_guest_sends_itself_an_smi(machine: Machine) -> None:
    icr = ASSERT | TO_ITSELF | SMI
    machine.load(f"mov dword ptr [{ICR:#x}], {icr:#x}; out 0x81, al", Mode.PROTECTED)
    assert machine.vcpu.port() == 0x80
    assert in_smm(machine.vcpu)
    assert machine.vcpu.port() == 0x81
    assert not in_smm(machine.vcpu)


def test_message_wakes_a_halted_guest(machine: Machine) -> None:
    machine.load("again: hlt; jmp again", Mode.PROTECTED)
    sender = threading.Timer(0, send, (machine.vm, SMI))
    sender.start()
    assert machine.vcpu.port() == 0x80
    sender.join()
    assert in_smm(machine.vcpu)


def test_smi_on_its_way_is_saved(machine: Machine) -> None:
    machine.load("out 0x81, al", Mode.PROTECTED)
    send(machine.vm, SMI)
    saved = events(machine.vcpu)
    assert saved.smi.pending
    saved.smi.pending = 0
    machine.vcpu.ioctl(KVM_SET_VCPU_EVENTS, saved)
    assert machine.vcpu.port() == 0x81


def test_init_waits_for_rsm(machine: Machine) -> None:
    machine.load("out 0x81, al", Mode.PROTECTED)
    send(machine.vm, SMI)
    assert machine.vcpu.port() == 0x80
    send(machine.vm, INIT)
    saved = events(machine.vcpu)
    assert (saved.smi.smm, saved.smi.latched_init) == (1, 1)
    machine.vcpu.ioctl(KVM_SET_VCPU_EVENTS, saved)
    assert bytes(events(machine.vcpu)) == bytes(saved)
    assert machine.vcpu.port() == 0x82
    assert not in_smm(machine.vcpu)
    assert not events(machine.vcpu).smi.latched_init


def test_client_takes_a_latched_init_back(machine: Machine) -> None:
    machine.load("out 0x81, al", Mode.PROTECTED)
    send(machine.vm, SMI)
    assert machine.vcpu.port() == 0x80
    send(machine.vm, INIT)
    saved = events(machine.vcpu)
    saved.smi.latched_init = 0
    machine.vcpu.ioctl(KVM_SET_VCPU_EVENTS, saved)
    assert machine.vcpu.port() == 0x81


def test_client_latches_an_init(machine: Machine) -> None:
    machine.load("out 0x81, al", Mode.PROTECTED)
    wanted = kvm_vcpu_events(flags=kvm.KVM_VCPUEVENT_VALID_SMM)
    wanted.smi.latched_init = 1
    machine.vcpu.ioctl(KVM_SET_VCPU_EVENTS, wanted)
    assert events(machine.vcpu).smi.latched_init
    assert machine.vcpu.port() == 0x82
