"""KVM_SET_GSI_ROUTING: where interrupt lines lead.

`Documentation/virt/kvm/api.rst`, KVM_SET_GSI_ROUTING; what is refused follows
`virt/kvm/irqchip.c` and `kvm_set_routing_entry` in `arch/x86/kvm/irq_comm.c`.
"""

import errno
from collections.abc import Sequence
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import limits
from kvmshim.abi.structs_gen import (
    kvm_irq_routing,
    kvm_irq_routing_entry,
    kvm_irq_routing_hv_sint,
    kvm_irq_routing_irqchip,
    kvm_irq_routing_msi,
)
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Irqchip, Vm
from microv import abi_gen as mv
from microv.ops import irqchip as irqchip_op

_PIC_PINS: Final = 8
_NO_SINT: Final = 0xFF
"""A source that no processor has: what is routed there gets lost."""
_PICS: Final = {kvm.KVM_IRQCHIP_PIC_MASTER: 0, kvm.KVM_IRQCHIP_PIC_SLAVE: _PIC_PINS}


def check_head(vm: Vm, head: kvm_irq_routing) -> None:
    """Errors: EINVAL (no interrupt controllers here; flags)."""
    if vm.irqchip is Irqchip.NONE or head.flags:
        raise KvmError(errno.EINVAL, f"flags {head.flags:#x}, or no interrupt controllers")


def handle_vm_set_gsi_routing(vm: Vm, entries: Sequence[kvm_irq_routing_entry]) -> None:
    """KVM_SET_GSI_ROUTING. The table replaces the old one as a whole.

    Errors: EINVAL (what `check_head` refuses; line, chip or pin out of range; a line twice to one
    chip, or a message's line to anything else; chips that are the client's).
    """
    by_line: dict[int, list[kvm_irq_routing_entry]] = {}
    routes = []
    for entry in entries:
        routes.append(_route(vm, entry))
        others = by_line.setdefault(entry.gsi, [])
        if any(_excludes(entry, other) for other in others):
            raise KvmError(errno.EINVAL, f"line {entry.gsi} leads to one place twice")
        others.append(entry)
    irqchip_op.gsi_list_set(vm.vmid, routes)


def _excludes(entry: kvm_irq_routing_entry, other: kvm_irq_routing_entry) -> bool:
    both_chips = entry.type_ == other.type_ == kvm.KVM_IRQ_ROUTING_IRQCHIP
    return not both_chips or _pin(entry).irqchip == _pin(other).irqchip


def _pin(entry: kvm_irq_routing_entry) -> kvm_irq_routing_irqchip:
    return kvm_irq_routing_irqchip.from_buffer_copy(entry.u)


def _route(vm: Vm, entry: kvm_irq_routing_entry) -> mv.mv_gsi_entry_t:
    if entry.gsi >= limits.KVM_MAX_IRQ_ROUTES:
        raise KvmError(errno.EINVAL, f"line {entry.gsi} is out of range")
    if entry.flags:
        raise KvmError(errno.EINVAL, f"flags {entry.flags:#x} of line {entry.gsi}")
    if entry.type_ == kvm.KVM_IRQ_ROUTING_MSI:
        msi = kvm_irq_routing_msi.from_buffer_copy(entry.u)
        address = msi.address_hi << 32 | msi.address_lo
        kind = mv.mv_gsi_t_msi
        return mv.mv_gsi_entry_t(gsi=entry.gsi, kind=kind, address=address, data=msi.data)
    if entry.type_ == kvm.KVM_IRQ_ROUTING_HV_SINT:
        source = kvm_irq_routing_hv_sint.from_buffer_copy(entry.u)
        kind, sint = mv.mv_gsi_t_sint, min(source.sint, _NO_SINT)
        return mv.mv_gsi_entry_t(gsi=entry.gsi, kind=kind, address=source.vcpu, data=sint)
    if entry.type_ != kvm.KVM_IRQ_ROUTING_IRQCHIP or vm.irqchip is not Irqchip.KERNEL:
        raise KvmError(errno.EINVAL, f"type {entry.type_} of line {entry.gsi}")
    return _chip_route(entry)


def _chip_route(entry: kvm_irq_routing_entry) -> mv.mv_gsi_entry_t:
    chip, pin = _pin(entry).irqchip, _pin(entry).pin
    if chip in _PICS and pin < _PIC_PINS:
        kind, pin = mv.mv_gsi_t_pic, _PICS[chip] + pin
    elif chip == kvm.KVM_IRQCHIP_IOAPIC and pin < kvm.KVM_IOAPIC_NUM_PINS:
        kind = mv.mv_gsi_t_ioapic
    else:
        raise KvmError(errno.EINVAL, f"chip {chip} has no pin {pin}")
    return mv.mv_gsi_entry_t(gsi=entry.gsi, kind=kind, address=pin)
