"""Guests that use their local APIC, and messages to it, as tests of interrupts need them.

Such a guest is in protected mode, where the APIC's page is reached without page tables.
"""

from ctypes import sizeof
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.structs_gen import (
    kvm_enable_cap,
    kvm_irq_routing,
    kvm_irq_routing_entry,
    kvm_irq_routing_msi,
    kvm_msi,
)
from tests.kvm import System, Vm, table
from tests.machine import RAM_SIZE, Machine, Mode

APIC: Final = 0xFEE0_0000
ID: Final = 0x20
EOI: Final = 0xB0
SVR: Final = 0xF0
ICR_LOW: Final = 0x300
ICR_HIGH: Final = 0x310
LVT_LINT0: Final = 0x350

ENABLED: Final = 0x1FF
"""For SVR: enabled, spurious vector 0xFF."""

MASKED: Final = 1 << 16
"""For LVT_LINT0."""

MSI_LEVEL: Final = 1 << 15
MSI_ASSERT: Final = 1 << 14


def write(register: int, value: int) -> str:
    """The instruction that writes a register of the local APIC in xAPIC mode."""
    return f"mov dword ptr [{APIC | register:#x}], {value:#x};"


def load(machine: Machine, source: str, handlers: dict[int, str]) -> None:
    """A guest that enables its local APIC, does `source`, and halts for ever.

    The PIC, which nobody has initialized, is kept away. Before it lets interrupts in it tells by
    port 0x80. A handler tells what it likes.
    """
    ready = "out 0x80, al; sti; again: hlt; jmp again"
    machine.load(write(SVR, ENABLED) + write(LVT_LINT0, MASKED) + source + ready, Mode.PROTECTED)
    for vector, handler in handlers.items():
        machine.handle(vector, handler, Mode.PROTECTED)


def split_machine(system: System, pins: int = 24) -> Machine:
    """A vCPU whose local APIC is in the engine; PIC and IOAPIC are the client's."""
    vm = system.create_vm()
    enable_cap(vm, kvm.KVM_CAP_SPLIT_IRQCHIP, pins)
    ram = vm.add_region(slot=0, gpa=0, size=RAM_SIZE)
    return Machine(vm, vm.create_vcpu(0), ram)


def enable_cap(vm: Vm, cap: int, argument: int) -> None:
    wanted = kvm_enable_cap(cap=cap)
    wanted.args[0] = argument
    vm.ioctl(nr.KVM_ENABLE_CAP, wanted)


def message(vector: int, destination: int = 0, data: int = 0) -> kvm_msi:
    """A message to the APIC with this ID; `data` are bits beside the vector."""
    high = destination & 0xFFFF_FF00
    low = APIC | (destination & 0xFF) << 12
    return kvm_msi(address_lo=low, address_hi=high, data=vector | data)


def send(vm: Vm, msi: kvm_msi) -> int:
    """KVM_SIGNAL_MSI: how many have got it."""
    return vm.ioctl(nr.KVM_SIGNAL_MSI, msi)


def route(vm: Vm, lines: dict[int, kvm_msi]) -> None:
    """Makes these lines lead to messages, and all others nowhere."""
    entries = [routing_entry(gsi, msi) for gsi, msi in lines.items()]
    vm.ioctl(nr.KVM_SET_GSI_ROUTING, table(kvm_irq_routing(nr=len(entries)), entries))


def routing_entry(gsi: int, msi: kvm_msi) -> kvm_irq_routing_entry:
    target = kvm_irq_routing_msi(
        address_lo=msi.address_lo, address_hi=msi.address_hi, data=msi.data
    )
    entry = kvm_irq_routing_entry(gsi=gsi, type_=kvm.KVM_IRQ_ROUTING_MSI)
    entry.u[: sizeof(target)] = list(bytes(target))
    return entry
