"""KVM_IRQFD: eventfds that raise an interrupt line.

`Documentation/virt/kvm/api.rst`, KVM_IRQFD; the order of checks is that of `kvm_irqfd` in
`virt/kvm/eventfd.c`.
"""

import errno
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_irqfd
from kvmshim.errors import KvmError
from kvmshim.handle.vm.eventfds import eventfds_of
from kvmshim.objects.vm import Irqchip, Vm
from kvmshim.platform.caller import Caller

_VALID_FLAGS: Final = kvm.KVM_IRQFD_FLAG_DEASSIGN | kvm.KVM_IRQFD_FLAG_RESAMPLE


def handle_vm_irqfd(vm: Vm, request: kvm_irqfd, caller: Caller) -> None:
    """KVM_IRQFD. A pulse for each signal; with KVM_IRQFD_FLAG_RESAMPLE the line stays high until
    its interrupt ends, and `resamplefd` is signalled then.

    Errors: EINVAL (unknown flags; no interrupt controllers here, or with RESAMPLE no IOAPIC; no
    eventfd), EBADF (no such descriptor), EBUSY (it raises a line of this VM already).
    """
    if request.flags & ~_VALID_FLAGS:
        raise KvmError(errno.EINVAL, f"flags {request.flags:#x} are not known")
    eventfds = eventfds_of(vm, caller)
    if request.flags & kvm.KVM_IRQFD_FLAG_DEASSIGN:
        eventfds.leave_line(request.gsi, _descriptor(request.fd))
        return
    resample = request.flags & kvm.KVM_IRQFD_FLAG_RESAMPLE != 0
    if vm.irqchip is Irqchip.NONE or (resample and vm.irqchip is not Irqchip.KERNEL):
        raise KvmError(errno.EINVAL, "the VM has no controller for this line")
    resample_fd = _descriptor(request.resamplefd) if resample else None
    eventfds.raise_line(request.gsi, _descriptor(request.fd), resample_fd)


def _descriptor(number: int) -> int:
    """A descriptor from the field, which is unsigned in the structure."""
    return number - (1 << 32) if number >> 31 else number
