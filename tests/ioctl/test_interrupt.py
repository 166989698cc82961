"""KVM_INTERRUPT, KVM_NMI: interrupts from the client's own controller."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_INTERRUPT, KVM_NMI
from kvmshim.abi.structs_gen import kvm_interrupt
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import Machine, Mode

VECTOR = 0x40
WAIT = "sti; nop; again: hlt; jmp again"


def interrupt(vcpu: Vcpu, vector: int) -> None:
    vcpu.ioctl(KVM_INTERRUPT, kvm_interrupt(irq=vector))


@pytest.fixture
def waiting(machine: Machine) -> Machine:
    """In HLT with interrupts on; handlers count in EBX and ECX."""
    machine.load(WAIT, Mode.PROTECTED)
    machine.handle(VECTOR, "inc ebx; iret", Mode.PROTECTED)
    machine.handle(2, "inc ecx; hlt; iret", Mode.PROTECTED)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    machine.vcpu.change_regs(rbx=0, rcx=0)
    return machine


def test_nmi_capability_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_USER_NMI) == 1


def test_interrupt_wakes_the_guest(waiting: Machine) -> None:
    assert waiting.vcpu.state.ready_for_interrupt_injection == 1
    interrupt(waiting.vcpu, VECTOR)
    assert waiting.vcpu.run() == kvm.KVM_EXIT_HLT
    assert waiting.vcpu.regs().rbx == 1


def test_closed_guest_takes_it_when_it_opens(machine: Machine) -> None:
    machine.load("hlt; mov edx, 1; sti; nop; nop; hlt", Mode.PROTECTED)
    machine.handle(VECTOR, "mov ebx, edx; iret", Mode.PROTECTED)
    interrupt(machine.vcpu, VECTOR)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.state.ready_for_interrupt_injection == 0
    assert machine.vcpu.sregs().interrupt_bitmap[VECTOR // 64] == 1 << VECTOR % 64
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rbx == 1


def test_window_opens_for_the_next_interrupt(waiting: Machine) -> None:
    interrupt(waiting.vcpu, VECTOR)
    waiting.vcpu.state.request_interrupt_window = 1
    assert waiting.vcpu.run() == kvm.KVM_EXIT_IRQ_WINDOW_OPEN
    assert waiting.vcpu.regs().rbx == 1
    interrupt(waiting.vcpu, VECTOR)
    waiting.vcpu.state.request_interrupt_window = 0
    assert waiting.vcpu.run() == kvm.KVM_EXIT_HLT
    assert waiting.vcpu.regs().rbx == 2


def test_second_interrupt_takes_the_place_of_the_first(vcpu: Vcpu) -> None:
    interrupt(vcpu, 0x20)
    interrupt(vcpu, 0x21)
    assert vcpu.sregs().interrupt_bitmap[0] == 1 << 0x21


def test_waiting_interrupt_can_be_saved_and_restored(vcpu: Vcpu) -> None:
    interrupt(vcpu, 0x20)
    saved = vcpu.sregs()
    vcpu.set_sregs(saved)
    assert bytes(vcpu.sregs()) == bytes(saved)


@pytest.mark.parametrize("vector", [256, 0xFFFF_FFFF], ids=hex)
def test_there_are_256_vectors(vcpu: Vcpu, vector: int) -> None:
    with refused(errno.EINVAL):
        interrupt(vcpu, vector)
    interrupt(vcpu, 255)


def test_nmi_is_taken_whether_or_not_interrupts_are_on(machine: Machine) -> None:
    machine.load("cli; nop; hlt", Mode.PROTECTED)
    machine.handle(2, "mov ecx, 7; hlt", Mode.PROTECTED)
    machine.vcpu.ioctl(KVM_NMI)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rcx == 7


def test_second_nmi_waits_for_the_end_of_the_first(waiting: Machine) -> None:
    waiting.vcpu.ioctl(KVM_NMI)
    assert waiting.vcpu.run() == kvm.KVM_EXIT_HLT
    waiting.vcpu.ioctl(KVM_NMI)
    assert waiting.vcpu.regs().rcx == 1
    assert waiting.vcpu.run() == kvm.KVM_EXIT_HLT
    assert waiting.vcpu.regs().rcx == 2


@pytest.mark.parametrize("number", [KVM_INTERRUPT, KVM_NMI], ids=hex)
def test_only_a_vcpu_is_interrupted(system: System, vm: Vm, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, kvm_interrupt())
    with refused(errno.ENOTTY):
        vm.ioctl(number, kvm_interrupt())
