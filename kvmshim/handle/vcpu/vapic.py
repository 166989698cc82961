"""KVM_TPR_ACCESS_REPORTING, KVM_SET_VAPIC_ADDR: task priorities of guests that are patched.

`Documentation/virt/kvm/api.rst`. KVM_EXIT_TPR_ACCESS tells a client which instructions of its
guest access the task-priority register. It replaces them by code that uses a word of memory, and
says where that is.
"""

import errno
from ctypes import c_uint64

from kvmshim.abi.structs_gen import kvm_tpr_access_ctl
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from microv.ops import vs as vs_op
from microv.status import MvError


def handle_vcpu_tpr_access_reporting(vcpu: Vcpu, control: kvm_tpr_access_ctl) -> kvm_tpr_access_ctl:
    """KVM_TPR_ACCESS_REPORTING: whether KVM_RUN leaves with KVM_EXIT_TPR_ACCESS behind an
    instruction that accesses the register. Without a local APIC in the engine none does.

    Errors: EINVAL (a flag).
    """
    if control.flags:
        raise KvmError(errno.EINVAL, f"flags {control.flags:#x}")
    vs_op.tpr_report_set(vcpu.vsid, report=bool(control.enabled))
    return control


def handle_vcpu_set_vapic_addr(vcpu: Vcpu, address: c_uint64) -> None:
    """KVM_SET_VAPIC_ADDR: where the guest has its task priority, until INIT; 0 is no place.

    Errors: EINVAL (no local APIC in the engine; no memory there that can be written).
    """
    try:
        vs_op.vapic_set(vcpu.vsid, address.value)
    except MvError as error:
        raise KvmError(errno.EINVAL, f"no task priority can be at {address.value:#x}") from error
