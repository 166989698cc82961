"""Raising interrupts: KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_SIGNAL_MSI.

`Documentation/virt/kvm/api.rst`; what the status is follows `kvm_set_irq` in
`virt/kvm/irqchip.c`: -1 for a line that leads nowhere or is masked, 0 for a request that was
pending already, else how many were raised.
"""

import errno
from typing import Final

from kvmshim.abi.structs_gen import kvm_irq_level, kvm_msi
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Irqchip, Vm
from microv.ops import irqchip as irqchip_op

_IGNORED: Final = -1


def handle_vm_irq_line(vm: Vm, event: kvm_irq_level) -> None:
    """KVM_IRQ_LINE. Errors: ENXIO (no interrupt controllers here)."""
    _drive(vm, event)


def handle_vm_irq_line_status(vm: Vm, event: kvm_irq_level) -> kvm_irq_level:
    """KVM_IRQ_LINE_STATUS: as KVM_IRQ_LINE, and what became of it."""
    event.irq = _drive(vm, event) & 0xFFFFFFFF
    return event


def _drive(vm: Vm, event: kvm_irq_level) -> int:
    if vm.irqchip is Irqchip.NONE:
        raise KvmError(errno.ENXIO, "the VM has no interrupt controllers")
    raised = irqchip_op.irq_line(vm.vmid, event.irq, high=event.level != 0)
    return _IGNORED if raised is None else raised


def handle_vm_signal_msi(vm: Vm, msi: kvm_msi) -> int:
    """KVM_SIGNAL_MSI: how many have got it; 0 if it was pending there.

    Errors: EINVAL (no interrupt controllers here; unknown flags), EPERM (it is for nobody: KVM's
    own -1).
    """
    if vm.irqchip is Irqchip.NONE or msi.flags:
        raise KvmError(errno.EINVAL, f"flags {msi.flags:#x}, or no interrupt controllers")
    address = msi.address_hi << 32 | msi.address_lo
    raised = irqchip_op.signal_msi(vm.vmid, address, msi.data)
    if raised is None:
        raise KvmError(errno.EPERM, f"a message to {address:#x} is for nobody")
    return raised
