"""KVM_HYPERV_EVENTFD: hypercalls of Hyper-V's guests that signal an eventfd and do not leave.

`Documentation/virt/kvm/api.rst`, KVM_HYPERV_EVENTFD.
"""

import errno

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_hyperv_eventfd
from kvmshim.errors import KvmError
from kvmshim.handle.vm.eventfds import eventfds_of
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller
from microv.ops import vm as vm_op


def handle_vm_hyperv_eventfd(vm: Vm, event: kvm_hyperv_eventfd, caller: Caller) -> None:
    """KVM_HYPERV_EVENTFD: HvCallSignalEvent to the connection succeeds at once.

    Errors: EINVAL (unknown flags, a connection of more than 24 bits, no eventfd), EBADF (no such
    descriptor), EEXIST (the connection has an eventfd), ENOENT (nothing to deassign).
    """
    if event.flags & ~kvm.KVM_HYPERV_EVENTFD_DEASSIGN:
        raise KvmError(errno.EINVAL, f"flags {event.flags:#x} are not known")
    if event.conn_id & ~kvm.KVM_HYPERV_CONN_ID_MASK:
        raise KvmError(errno.EINVAL, f"{event.conn_id:#x} is no connection")
    eventfds = eventfds_of(vm, caller)
    with vm.lock:
        if event.flags & kvm.KVM_HYPERV_EVENTFD_DEASSIGN:
            eventfds.ignore_connection(event.conn_id)
            vm_op.hyperv_connect(vm.vmid, event.conn_id, known=False)
        else:
            eventfds.signal_on_connection(event.conn_id, event.fd)
            vm_op.hyperv_connect(vm.vmid, event.conn_id, known=True)
