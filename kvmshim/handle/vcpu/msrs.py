"""KVM_GET_MSRS and KVM_SET_MSRS: model-specific registers, by a list of entries.

Both stop at the first MSR that cannot be read or written and return how many came before it.
"""

from collections.abc import Sequence

from kvmshim.abi.msr_index import MSR_IA32_TSC
from kvmshim.abi.structs_gen import kvm_msr_entry
from kvmshim.handle.tsc_match import write_tsc
from kvmshim.objects.vcpu import Vcpu
from microv.ops import vs as vs_op
from microv.status import MvError


def handle_vcpu_get_msrs(vcpu: Vcpu, entries: Sequence[kvm_msr_entry]) -> int:
    """KVM_GET_MSRS: fills `data` of each entry; returns how many are filled."""
    for done, entry in enumerate(entries):
        try:
            entry.data = vs_op.msr_get(vcpu.vsid, entry.index)
        except MvError:
            return done
    return len(entries)


def handle_vcpu_set_msrs(vcpu: Vcpu, entries: Sequence[kvm_msr_entry]) -> int:
    """KVM_SET_MSRS: returns how many are set. A time-stamp counter that is nearly that of the vCPU
    written before becomes that one."""
    for done, entry in enumerate(entries):
        try:
            if entry.index == MSR_IA32_TSC:
                write_tsc(vcpu, entry.data)
            else:
                vs_op.msr_set(vcpu.vsid, entry.index, entry.data)
        except MvError:
            return done
    return len(entries)
