"""KVM_HYPERV_SET_TLB_FLUSH_INHIBIT: whether guests of Hyper-V may flush a vCPU by hypercall.

"KVM: Introduce KVM_HYPERV_SET_TLB_FLUSH_INHIBIT", a patch series of October 2024. A vCPU that wants
to flush it meanwhile is suspended inside KVM_RUN.
"""

import errno

from kvmshim.abi import profiles
from kvmshim.abi.structs_gen import kvm_hyperv_tlb_flush_inhibit
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from microv.ops import vs as vs_op


def handle_vcpu_hyperv_set_tlb_flush_inhibit(
    vcpu: Vcpu, wanted: kvm_hyperv_tlb_flush_inhibit
) -> None:
    """KVM_HYPERV_SET_TLB_FLUSH_INHIBIT. Flushes under way are done when it returns, and vCPUs that
    wait for this one try again when it may be flushed.

    Never fails, for the series looks at `inhibit` only. With `--strict`: EINVAL (a flag, a reserved
    byte, an inhibition that is neither 0 nor 1).
    """
    sound = not wanted.flags and not any(wanted.reserved) and wanted.inhibit <= 1
    if profiles.is_strict() and not sound:
        raise KvmError(errno.EINVAL, f"flags {wanted.flags:#x}, inhibit {wanted.inhibit}")
    vs_op.hyperv_flush_inhibit(vcpu.vsid, inhibit=bool(wanted.inhibit))
