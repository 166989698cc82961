"""KVM_SET_GSI_ROUTING, KVM_IRQ_LINE_STATUS: where lines lead, what became of an interrupt."""

import ctypes
import errno
from typing import Final

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.limits import KVM_MAX_IRQ_ROUTES
from kvmshim.abi.structs_gen import (
    kvm_irq_level,
    kvm_irq_routing,
    kvm_irq_routing_entry,
    kvm_irq_routing_irqchip,
    kvm_irqchip,
    kvm_pic_state,
)
from tests.kvm import PAGE_SIZE, PROT_NONE, Region, System, Vm, refused, table

FAR_LINE: Final = 200
"""A line that leads nowhere by default."""
PIN: Final = 3


@pytest.fixture
def vm(system: System) -> Vm:
    """A VM with all controllers."""
    vm = system.create_vm()
    vm.ioctl(nr.KVM_CREATE_IRQCHIP)
    return vm


def to_chip(gsi: int, chip: int, pin: int, **fields: int) -> kvm_irq_routing_entry:
    entry = kvm_irq_routing_entry(gsi=gsi, type_=kvm.KVM_IRQ_ROUTING_IRQCHIP)
    place = kvm_irq_routing_irqchip(irqchip=chip, pin=pin)
    ctypes.memmove(entry.u, bytes(place), ctypes.sizeof(place))
    for name, value in fields.items():
        setattr(entry, name, value)
    return entry


TO_PIC: Final = to_chip(FAR_LINE, kvm.KVM_IRQCHIP_PIC_MASTER, PIN)

REFUSED: Final = {
    "line": to_chip(KVM_MAX_IRQ_ROUTES, kvm.KVM_IRQCHIP_PIC_MASTER, 0),
    "chip": to_chip(FAR_LINE, 3, 0),
    "pin of the PIC": to_chip(FAR_LINE, kvm.KVM_IRQCHIP_PIC_MASTER, 8),
    "pin of the IOAPIC": to_chip(FAR_LINE, kvm.KVM_IRQCHIP_IOAPIC, 24),
    "type": to_chip(FAR_LINE, kvm.KVM_IRQCHIP_PIC_MASTER, 0, type_=9),
    "flags": to_chip(FAR_LINE, kvm.KVM_IRQCHIP_PIC_MASTER, 0, flags=1),
}


def route(vm: Vm, *entries: kvm_irq_routing_entry, flags: int = 0) -> None:
    vm.ioctl(nr.KVM_SET_GSI_ROUTING, table(kvm_irq_routing(nr=len(entries), flags=flags), entries))


def status(vm: Vm, gsi: int, level: int) -> int:
    """What KVM_IRQ_LINE_STATUS says became of it."""
    event = kvm_irq_level(irq=gsi, level=level)
    vm.ioctl(nr.KVM_IRQ_LINE_STATUS, event)
    return ctypes.c_int32(event.irq).value


def requested(vm: Vm) -> int:
    """The interrupt requests of the first PIC."""
    chip = kvm_irqchip(chip_id=kvm.KVM_IRQCHIP_PIC_MASTER)
    vm.ioctl(nr.KVM_GET_IRQCHIP, chip)
    return kvm_pic_state.from_buffer_copy(bytes(chip)[8:]).irr


def test_line_leads_where_the_table_says(vm: Vm) -> None:
    route(vm, TO_PIC)
    assert status(vm, FAR_LINE, 1) == 1
    assert requested(vm) == 1 << PIN


def test_line_without_a_route_leads_nowhere(vm: Vm) -> None:
    assert status(vm, FAR_LINE, 1) == -1
    assert requested(vm) == 0


def test_new_table_replaces_the_old_one(vm: Vm) -> None:
    route(vm, TO_PIC)
    route(vm, to_chip(FAR_LINE, kvm.KVM_IRQCHIP_PIC_MASTER, PIN + 1))
    status(vm, FAR_LINE, 1)
    assert requested(vm) == 1 << PIN + 1


def test_empty_table_leads_nowhere(vm: Vm) -> None:
    route(vm)
    assert status(vm, PIN, 1) == -1


@pytest.mark.parametrize("entry", REFUSED.values(), ids=REFUSED)
def test_refused_table_leaves_the_old_one(vm: Vm, entry: kvm_irq_routing_entry) -> None:
    route(vm, TO_PIC)
    with refused(errno.EINVAL):
        route(vm, to_chip(FAR_LINE, kvm.KVM_IRQCHIP_PIC_MASTER, PIN + 1), entry)
    status(vm, FAR_LINE, 1)
    assert requested(vm) == 1 << PIN


def test_flags_are_refused(vm: Vm) -> None:
    with refused(errno.EINVAL):
        route(vm, TO_PIC, flags=1)


def test_flags_are_refused_before_the_entries_are_read(vm: Vm) -> None:
    hole = Region(2 * PAGE_SIZE)
    vm.owned.callback(hole.close)
    hole.protect(PROT_NONE, offset=PAGE_SIZE, size=PAGE_SIZE)
    head = bytes(kvm_irq_routing(nr=1, flags=1))
    hole.write(PAGE_SIZE - len(head), head)
    with refused(errno.EINVAL):
        vm.ioctl(nr.KVM_SET_GSI_ROUTING, hole.address + PAGE_SIZE - len(head))


def test_there_is_none_without_controllers(system: System) -> None:
    with refused(errno.EINVAL):
        route(system.create_vm(), TO_PIC)
