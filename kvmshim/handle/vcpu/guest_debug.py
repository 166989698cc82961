"""KVM_SET_GUEST_DEBUG: steps and breakpoints of the client, which KVM_RUN leaves for.

`Documentation/virt/kvm/api.rst`, KVM_SET_GUEST_DEBUG. The guest's own debug registers stay; while
the client steps or has hardware breakpoints, every #DB is the client's.
"""

import errno
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_guest_debug
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from microv import abi_gen as mv
from microv.ops import vs as vs_op

_FLAGS: Final[dict[int, int]] = {
    kvm.KVM_GUESTDBG_SINGLESTEP: mv.MV_DEBUG_STEP,
    kvm.KVM_GUESTDBG_USE_SW_BP: mv.MV_DEBUG_INT3,
    kvm.KVM_GUESTDBG_USE_HW_BP: mv.MV_DEBUG_POINTS,
    kvm.KVM_GUESTDBG_BLOCKIRQ: mv.MV_DEBUG_BLOCK_INTERRUPTS,
}
_DB, _BP = 1, 3


def handle_vcpu_set_guest_debug(vcpu: Vcpu, debug: kvm_guest_debug) -> None:
    """KVM_SET_GUEST_DEBUG. Without KVM_GUESTDBG_ENABLE all debugging ends; bits of `control` that
    are not known are ignored, as in KVM.

    Errors: EBUSY (KVM_GUESTDBG_INJECT_DB or _BP while another exception waits); nothing is
    changed then.
    """
    if debug.control & (kvm.KVM_GUESTDBG_INJECT_DB | kvm.KVM_GUESTDBG_INJECT_BP):
        if vs_op.event_get_all(vcpu.vsid).flags & mv.MV_EVENT_EXCEPTION:
            raise KvmError(errno.EBUSY, "another exception waits")
        inject_db = debug.control & kvm.KVM_GUESTDBG_INJECT_DB
        vs_op.inject_exception(vcpu.vsid, _DB if inject_db else _BP)
    wanted = mv.mv_debug_t()
    if debug.control & kvm.KVM_GUESTDBG_ENABLE:
        wanted.flags = sum(flag for bit, flag in _FLAGS.items() if debug.control & bit)
        for number in range(4):
            wanted.dr[number] = debug.arch.debugreg[number]
        wanted.dr7 = debug.arch.debugreg[7]
    vs_op.debug_set(vcpu.vsid, wanted)
