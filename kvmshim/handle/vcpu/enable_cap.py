"""KVM_ENABLE_CAP of a vCPU: what a vCPU does only when its client asks for it."""

import errno

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_enable_cap
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from microv.ops import vs as vs_op


def handle_vcpu_enable_cap(vcpu: Vcpu, wanted: kvm_enable_cap) -> None:
    """KVM_ENABLE_CAP. KVM_CAP_ENFORCE_PV_FEATURE_CPUID: the guest has no more of KVM's MSRs and
    hypercalls than its CPUID announces; argument 0 lets it have all again.

    Errors: EINVAL (unknown capability, a flag).
    """
    if wanted.cap != kvm.KVM_CAP_ENFORCE_PV_FEATURE_CPUID or wanted.flags:
        raise KvmError(errno.EINVAL, f"capability {wanted.cap}, flags {wanted.flags:#x}")
    vs_op.paravirt_enforce(vcpu.vsid, enforce=bool(wanted.args[0]))
