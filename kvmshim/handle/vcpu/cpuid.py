"""KVM_SET_CPUID2, KVM_GET_CPUID2, the older KVM_SET_CPUID: what CPUID shows to the guest."""

import errno
from collections.abc import Sequence

from kvmshim.abi.structs_gen import kvm_cpuid_entry, kvm_cpuid_entry2
from kvmshim.errors import KvmError
from kvmshim.handle.cpuid_leaf import ADDRESS_SIZES, from_cdl, to_cdl
from kvmshim.objects.vcpu import Vcpu
from microv.ops import vs as vs_op

_LINEAR_ADDRESS_BITS = (0, 48, 57)


def handle_vcpu_set_cpuid2(vcpu: Vcpu, entries: Sequence[kvm_cpuid_entry2]) -> None:
    """KVM_SET_CPUID2 replaces the whole list.

    Errors: EINVAL (a number of linear address bits other than 48 or 57; a change after the first
    KVM_RUN).
    """
    wanted = [to_cdl(entry) for entry in entries]
    for entry in entries:
        bits = entry.eax >> 8 & 0xFF
        if entry.function == ADDRESS_SIZES and bits not in _LINEAR_ADDRESS_BITS:
            raise KvmError(errno.EINVAL, f"{bits} linear address bits")
    if vs_op.stats_get(vcpu.vsid).exits:
        if wanted != vs_op.cpuid_get_list(vcpu.vsid):
            raise KvmError(errno.EINVAL, "the vCPU has run: its CPUID stays as it is")
        return
    vs_op.cpuid_set_list(vcpu.vsid, wanted)


def handle_vcpu_set_cpuid(vcpu: Vcpu, entries: Sequence[kvm_cpuid_entry]) -> None:
    """KVM_SET_CPUID: as `handle_vcpu_set_cpuid2`, for leaves that have no index."""
    handle_vcpu_set_cpuid2(
        vcpu,
        [
            kvm_cpuid_entry2(
                function=entry.function,
                eax=entry.eax,
                ebx=entry.ebx,
                ecx=entry.ecx,
                edx=entry.edx,
            )
            for entry in entries
        ],
    )


def handle_vcpu_get_cpuid2(vcpu: Vcpu) -> Sequence[kvm_cpuid_entry2]:
    """KVM_GET_CPUID2: the list that was set, in its order."""
    return [from_cdl(entry) for entry in vs_op.cpuid_get_list(vcpu.vsid)]
