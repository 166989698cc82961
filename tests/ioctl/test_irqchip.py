"""Interrupt controllers behind the VM: lines, routing, messages, timers, IPIs, HLT, start-up."""

import errno
import os
import threading

import pytest

from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.structs_gen import (
    kvm_irq_level,
    kvm_irqchip,
    kvm_irqfd,
    kvm_lapic_state,
    kvm_pit_config,
)
from tests.ioctl import apic
from tests.kvm import System, refused
from tests.machine import RAM_SIZE, Machine, Mode

VECTOR = 0x24
"""Of line 4, once the PIC is initialized."""

INITIALIZE_PIC = """
    mov al, 0x11; out 0x20, al
    mov al, 0x20; out 0x21, al
    mov al, 4; out 0x21, al
    mov al, 1; out 0x21, al
    mov al, 0; out 0x21, al
"""
IOAPIC = 0xFEC0_0000
FOREVER = "again: hlt; jmp again"


@pytest.fixture
def machine(system: System) -> Machine:
    """One vCPU with all controllers in the engine."""
    vm = system.create_vm()
    vm.ioctl(nr.KVM_CREATE_IRQCHIP)
    ram = vm.add_region(slot=0, gpa=0, size=RAM_SIZE)
    return Machine(vm, vm.create_vcpu(0), ram)


def load(machine: Machine, source: str, handler: str, vector: int = VECTOR) -> None:
    """A guest in real mode with one interrupt handler."""
    machine.load(source, Mode.REAL)
    machine.handle(vector, handler, Mode.REAL)


def set_line(machine: Machine, gsi: int, level: int) -> None:
    machine.vm.ioctl(nr.KVM_IRQ_LINE, kvm_irq_level(irq=gsi, level=level))


def test_a_line_wakes_a_halted_guest(machine: Machine) -> None:
    load(machine, INITIALIZE_PIC + "out 0x80, al; sti;" + FOREVER, "out 0x81, al; iret")
    assert machine.vcpu.port() == 0x80
    raiser = threading.Timer(0, set_line, (machine, 4, 1))
    raiser.start()
    assert machine.vcpu.port() == 0x81
    raiser.join()


def test_the_timer_ticks(machine: Machine) -> None:
    machine.vm.ioctl(nr.KVM_CREATE_PIT2, kvm_pit_config())
    start = "mov al, 0x34; out 0x43, al; mov al, 0xA9; out 0x40, al; mov al, 4; out 0x40, al;"
    load(
        machine,
        INITIALIZE_PIC + start + "sti;" + FOREVER,
        "mov al, 0x20; out 0x20, al; out 0x81, al; iret",
        vector=0x20,
    )
    for _ in range(5):
        assert machine.vcpu.port() == 0x81


def test_a_tick_that_the_ioapic_did_not_take_holds_no_other_up(machine: Machine) -> None:
    """The timer ticks while its pin is masked; it is unmasked after as long as the guest loops."""
    machine.vm.ioctl(nr.KVM_CREATE_PIT2, kvm_pit_config())
    start = "mov al, 0x34; out 0x43, al; mov al, 0xA9; out 0x40, al; mov al, 4; out 0x40, al;"
    masked = "mov ecx, 500000; wait: dec ecx; jnz wait;"
    unmask = f"mov dword ptr [{IOAPIC}], 0x10; mov dword ptr [{IOAPIC + 0x10}], {VECTOR};"
    handler = f"{apic.write(apic.EOI, 0)} out 0x81, al; iretd"
    apic.load(machine, start + masked + unmask, {VECTOR: handler})
    assert machine.vcpu.port() == 0x80
    for _ in range(5):
        assert machine.vcpu.port() == 0x81


def test_an_irqfd_raises_its_line(machine: Machine) -> None:
    eventfd = os.eventfd(0)
    machine.vm.ioctl(nr.KVM_IRQFD, kvm_irqfd(fd=eventfd, gsi=4))
    load(
        machine,
        INITIALIZE_PIC + "out 0x80, al; sti;" + FOREVER,
        "mov al, 0x20; out 0x20, al; out 0x81, al; iret",
    )
    assert machine.vcpu.port() == 0x80
    for _ in range(3):
        os.eventfd_write(eventfd, 1)
        assert machine.vcpu.port() == 0x81


def test_the_chips_exist_once_and_before_vcpus(system: System) -> None:
    vm = system.create_vm()
    vm.ioctl(nr.KVM_CREATE_IRQCHIP)
    with refused(errno.EEXIST):
        vm.ioctl(nr.KVM_CREATE_IRQCHIP)
    late = system.create_vm()
    late.create_vcpu(0)
    with refused(errno.EINVAL):
        late.ioctl(nr.KVM_CREATE_IRQCHIP)


@pytest.mark.parametrize("chip", [0, 1, 2])
def test_chips_read_back_as_they_were_set(machine: Machine, chip: int) -> None:
    state = kvm_irqchip(chip_id=chip)
    machine.vm.ioctl(nr.KVM_GET_IRQCHIP, state)
    before = bytes(state)
    machine.vm.ioctl(nr.KVM_SET_IRQCHIP, state)
    machine.vm.ioctl(nr.KVM_GET_IRQCHIP, state)
    assert bytes(state) == before


def test_the_local_apic_reads_back_as_it_was_set(machine: Machine) -> None:
    state = kvm_lapic_state()
    machine.vcpu.ioctl(nr.KVM_GET_LAPIC, state)
    assert bytes(state)[0x350:0x352] == b"\0\7"
    before = bytes(state)
    machine.vcpu.ioctl(nr.KVM_SET_LAPIC, state)
    machine.vcpu.ioctl(nr.KVM_GET_LAPIC, state)
    assert bytes(state) == before


def test_a_second_vcpu_waits_to_be_started(machine: Machine) -> None:
    ap = machine.vm.create_vcpu(1)
    machine.ram.write(0x3000, b"\xe6\x82\xf4")
    enable = "mov eax, 0xfee000f0; mov dword ptr [eax], 0x1ff;"
    high = "mov eax, 0xfee00310; mov dword ptr [eax], 0x01000000;"
    init = "mov eax, 0xfee00300; mov dword ptr [eax], 0x4500;"
    start = "mov dword ptr [eax], 0x4603; out 0x80, al;"
    machine.load(enable + high + init + start + "hlt", Mode.PROTECTED)
    ports: list[int] = []
    started = threading.Thread(target=lambda: ports.append(ap.port()))
    started.start()
    assert machine.vcpu.port() == 0x80
    started.join()
    assert ports == [0x82]
