"""KVM_CAP_SPLIT_IRQCHIP: local APICs in the engine, PIC and IOAPIC of the client."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi import limits
from kvmshim.abi.structs_gen import (
    kvm_interrupt,
    kvm_irq_level,
    kvm_irqchip,
    kvm_pit_config,
)
from tests.ioctl.apic import (
    EOI,
    LVT_LINT0,
    MSI_ASSERT,
    MSI_LEVEL,
    enable_cap,
    load,
    message,
    route,
    send,
    split_machine,
    write,
)
from tests.kvm import System, refused
from tests.machine import Machine, Mode

VECTOR = 0x41
END = write(EOI, 0)
EXT_INT = 0x700
IOAPIC = 0xFEC0_0000


@pytest.fixture
def split(system: System) -> Machine:
    return split_machine(system)


def test_a_message_interrupts_and_its_end_stays_in_the_guest(split: Machine) -> None:
    load(split, "", {VECTOR: f"out 0x81, al; {END} out 0x82, al; iretd"})
    assert split.vcpu.port() == 0x80
    assert send(split.vm, message(VECTOR)) == 1
    assert [split.vcpu.port(), split.vcpu.port()] == [0x81, 0x82]


def test_the_end_of_a_routed_level_interrupt_is_told(split: Machine) -> None:
    level = message(VECTOR, data=MSI_LEVEL | MSI_ASSERT)
    route(split.vm, {5: level})
    load(split, "", {VECTOR: f"{END} out 0x82, al; iretd"})
    assert split.vcpu.port() == 0x80
    split.vm.ioctl(nr.KVM_IRQ_LINE, kvm_irq_level(irq=5, level=1))
    assert split.vcpu.run() == kvm.KVM_EXIT_IOAPIC_EOI
    assert split.vcpu.eoi_vector == VECTOR
    assert split.vcpu.port() == 0x82


def test_a_level_interrupt_of_a_line_beyond_the_pins_is_not_told(system: System) -> None:
    split = split_machine(system, pins=4)
    level = message(VECTOR, data=MSI_LEVEL | MSI_ASSERT)
    route(split.vm, {5: level})
    load(split, "", {VECTOR: f"{END} out 0x82, al; iretd"})
    assert split.vcpu.port() == 0x80
    split.vm.ioctl(nr.KVM_IRQ_LINE, kvm_irq_level(irq=5, level=1))
    assert split.vcpu.port() == 0x82


def test_the_clients_pic_interrupts_through_lint0(split: Machine) -> None:
    load(split, write(LVT_LINT0, EXT_INT), {VECTOR: "out 0x81, al; iretd"})
    assert split.vcpu.port() == 0x80
    split.vcpu.ioctl(nr.KVM_INTERRUPT, kvm_interrupt(irq=VECTOR))
    with refused(errno.EEXIST):
        split.vcpu.ioctl(nr.KVM_INTERRUPT, kvm_interrupt(irq=VECTOR + 1))
    assert split.vcpu.port() == 0x81


def test_a_window_for_the_clients_pic(split: Machine) -> None:
    load(split, write(LVT_LINT0, EXT_INT), {VECTOR: "out 0x81, al; iretd"})
    assert split.vcpu.port() == 0x80
    assert not split.vcpu.state.ready_for_interrupt_injection
    split.vcpu.state.request_interrupt_window = 1
    assert split.vcpu.run() == kvm.KVM_EXIT_IRQ_WINDOW_OPEN
    assert split.vcpu.state.ready_for_interrupt_injection
    split.vcpu.state.request_interrupt_window = 0
    split.vcpu.ioctl(nr.KVM_INTERRUPT, kvm_interrupt(irq=VECTOR))
    assert split.vcpu.port() == 0x81


@pytest.mark.parametrize("port", [0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x40, 0x43, 0x61])
def test_ports_of_the_clients_chips_leave(split: Machine, port: int) -> None:
    split.load(f"mov edx, {port}; out dx, al; in al, dx; out 0x80, al", Mode.PROTECTED)
    for direction in (kvm.KVM_EXIT_IO_OUT, kvm.KVM_EXIT_IO_IN):
        assert split.vcpu.port() == port
        assert split.vcpu.io.direction == direction
    assert split.vcpu.port() == 0x80


def test_registers_of_the_clients_ioapic_leave(split: Machine) -> None:
    split.load(f"mov [{IOAPIC}], eax; mov eax, [{IOAPIC}]; out 0x80, al", Mode.PROTECTED)
    for is_write in (1, 0):
        assert split.vcpu.run() == kvm.KVM_EXIT_MMIO
        assert (split.vcpu.mmio.phys_addr, split.vcpu.mmio.is_write) == (IOAPIC, is_write)
    assert split.vcpu.port() == 0x80


def test_the_chips_of_the_client_are_not_here(split: Machine) -> None:
    for chip in range(3):
        with refused(errno.ENXIO):
            split.vm.ioctl(nr.KVM_GET_IRQCHIP, kvm_irqchip(chip_id=chip))
        with refused(errno.ENXIO):
            split.vm.ioctl(nr.KVM_SET_IRQCHIP, kvm_irqchip(chip_id=chip))
    with refused(errno.ENOENT):
        split.vm.ioctl(nr.KVM_CREATE_PIT2, kvm_pit_config())


def test_it_comes_once_and_before_vcpus(system: System) -> None:
    split = split_machine(system)
    for late in (split.vm, system.create_vm()):
        late.create_vcpu(1)
        with refused({split.vm: errno.EEXIST}.get(late, errno.EINVAL)):
            enable_cap(late, kvm.KVM_CAP_SPLIT_IRQCHIP, 24)
    with refused(errno.EEXIST):
        split.vm.ioctl(nr.KVM_CREATE_IRQCHIP)


def test_more_pins_than_lines_are_refused(system: System) -> None:
    vm = system.create_vm()
    with refused(errno.EINVAL):
        enable_cap(vm, kvm.KVM_CAP_SPLIT_IRQCHIP, limits.KVM_MAX_IRQ_ROUTES + 1)
    enable_cap(vm, kvm.KVM_CAP_SPLIT_IRQCHIP, limits.KVM_MAX_IRQ_ROUTES)
