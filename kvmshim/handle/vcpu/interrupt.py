"""KVM_INTERRUPT, KVM_NMI and KVM_SMI: interrupts from the client's own interrupt controller."""

import errno
from typing import Final

from kvmshim.abi.structs_gen import kvm_interrupt
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Irqchip
from kvmshim.platform.caller import Caller
from microv.ops import vs as vs_op
from microv.status import MvError

_VECTORS: Final = 256
_NMI: Final = 2


def handle_vcpu_interrupt(vcpu: Vcpu, interrupt: kvm_interrupt) -> None:
    """KVM_INTERRUPT: the guest takes the interrupt as soon as it is open for one.

    As in KVM it comes in place of an earlier one that still waits, which is lost: a client looks
    at `ready_for_interrupt_injection` in `kvm_run` first. With local APICs in the engine it comes
    from the client's 8259A, and replaces none.

    Errors: EINVAL (a vector beyond 255), ENXIO (the 8259A is in the engine), EEXIST (with local
    APICs in the engine, one waits).
    """
    if interrupt.irq >= _VECTORS:
        raise KvmError(errno.EINVAL, f"there is no vector {interrupt.irq:#x}")
    match vcpu.vm.irqchip:
        case Irqchip.NONE:
            vs_op.replace_interrupt(vcpu.vsid, interrupt.irq)
        case Irqchip.SPLIT:
            _bring(vcpu, interrupt.irq)
        case Irqchip.KERNEL:
            raise KvmError(errno.ENXIO, "interrupts come from the PIC in the engine")


def _bring(vcpu: Vcpu, vector: int) -> None:
    try:
        vs_op.queue_interrupt(vcpu.vsid, vector)
    except MvError as error:
        raise KvmError(errno.EEXIST, "an interrupt waits already") from error


def handle_vcpu_nmi(vcpu: Vcpu, _: int, __: Caller) -> None:
    """KVM_NMI: the guest takes a non-maskable interrupt as soon as none is in service."""
    vs_op.inject_exception(vcpu.vsid, _NMI)


def handle_vcpu_smi(vcpu: Vcpu, _: int, __: Caller) -> None:
    """KVM_SMI: the guest enters system management mode as soon as it is not in that mode."""
    vs_op.inject_smi(vcpu.vsid)
