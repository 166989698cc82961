"""KVM_KVMCLOCK_CTRL: the guest learns that its client had stopped it.

`Documentation/virt/kvm/x86/msr.rst`, MSR_KVM_SYSTEM_TIME_NEW: flag 1 of the guest's clock, by which
its watchdogs tell a pause from a hang.
"""

import errno

from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from kvmshim.platform.caller import Caller
from microv.ops import vs as vs_op
from microv.status import MvError


def handle_vcpu_kvmclock_ctrl(vcpu: Vcpu, _: int, __: Caller) -> None:
    """KVM_KVMCLOCK_CTRL. Errors: EINVAL (the guest has not switched its clock on)."""
    try:
        vs_op.guest_stopped(vcpu.vsid)
    except MvError as error:
        raise KvmError(errno.EINVAL, "the guest has no clock") from error
