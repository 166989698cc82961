"""KVM_IOEVENTFD: writes of the guest that signal an eventfd and do not leave the guest.

`Documentation/virt/kvm/api.rst`, KVM_IOEVENTFD; the order of checks is that of
`kvm_assign_ioeventfd` in `virt/kvm/eventfd.c`.
"""

import errno
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_ioeventfd
from kvmshim.errors import KvmError
from kvmshim.handle.vm.eventfds import eventfds_of
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller
from kvmshim.platform.eventfds import Watched

_DATAMATCH: Final = 1 << kvm.kvm_ioeventfd_flag_nr_datamatch
_PIO: Final = 1 << kvm.kvm_ioeventfd_flag_nr_pio
_DEASSIGN: Final = 1 << kvm.kvm_ioeventfd_flag_nr_deassign
_VALID_FLAGS: Final = _DATAMATCH | _PIO | _DEASSIGN
_SIZES: Final = {0, 1, 2, 4, 8}


def handle_vm_ioeventfd(vm: Vm, event: kvm_ioeventfd, caller: Caller) -> None:
    """KVM_IOEVENTFD.

    Errors: EINVAL (size, range past the end, unknown flags, a value without a size, no eventfd),
    EBADF (no such descriptor), EEXIST (a write could be for another eventfd too), ENOENT (nothing
    to deassign).
    """
    watched = _watched(event)
    eventfds = eventfds_of(vm, caller)
    if event.flags & _DEASSIGN:
        eventfds.ignore(watched, event.fd)
    else:
        eventfds.signal_on(watched, event.fd)


def _watched(event: kvm_ioeventfd) -> Watched:
    if event.len not in _SIZES:
        raise KvmError(errno.EINVAL, f"{event.len} bytes are no access")
    if event.addr + event.len > 1 << 64:
        raise KvmError(errno.EINVAL, f"{event.addr:#x}+{event.len} goes past the end")
    if event.flags & ~_VALID_FLAGS:
        raise KvmError(errno.EINVAL, f"flags {event.flags:#x} are not known")
    if event.len == 0 and event.flags & _DATAMATCH:
        raise KvmError(errno.EINVAL, "a value of any size cannot match")
    return Watched(
        port=bool(event.flags & _PIO),
        address=event.addr,
        size=event.len,
        data=event.datamatch if event.flags & _DATAMATCH else None,
    )
