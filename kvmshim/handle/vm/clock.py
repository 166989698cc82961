"""KVM_GET_CLOCK and KVM_SET_CLOCK: the VM's clock in nanoseconds.

`Documentation/virt/kvm/api.rst`, KVM_GET_CLOCK. It begins at 0 with the VM. All vCPUs see one
time-stamp counter, so it is stable (KVM_CLOCK_TSC_STABLE), and every reading tells the host's
clocks of the same moment.
"""

import errno
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_clock_data
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Vm
from microv.ops import vm as vm_op

FLAGS: Final = kvm.KVM_CLOCK_TSC_STABLE | kvm.KVM_CLOCK_REALTIME | kvm.KVM_CLOCK_HOST_TSC


def handle_vm_get_clock(vm: Vm) -> kvm_clock_data:
    """KVM_GET_CLOCK. Never fails."""
    now = vm_op.clock_get(vm.vmid)
    return kvm_clock_data(clock=now.clock, flags=FLAGS, realtime=now.realtime, host_tsc=now.tsc)


def handle_vm_set_clock(vm: Vm, clock: kvm_clock_data) -> None:
    """KVM_SET_CLOCK. With KVM_CLOCK_REALTIME the time since `realtime` is added.

    The other flags mean nothing here, so that what was read can be written back.

    Errors: EINVAL (an unknown flag).
    """
    if clock.flags & ~FLAGS:
        raise KvmError(errno.EINVAL, f"flags {clock.flags:#x} are not known")
    since = clock.realtime if clock.flags & kvm.KVM_CLOCK_REALTIME else 0
    vm_op.clock_set(vm.vmid, clock.clock, since)
