"""KVM_GET_MSR_FEATURE_INDEX_LIST and KVM_GET_MSRS of the system: MSRs that describe the processor.

What a client reads here it may give to its vCPUs; `Documentation/virt/kvm/api.rst`, KVM_GET_MSRS.
"""

from collections.abc import Sequence

from kvmshim.abi.structs_gen import kvm_msr_entry
from kvmshim.objects.system import System
from microv.ops import pp as pp_op


def handle_system_get_msr_feature_index_list(_: System) -> Sequence[int]:
    """KVM_GET_MSR_FEATURE_INDEX_LIST: each of them can be read by `handle_system_get_msrs`."""
    return [msr for msr, _ in pp_op.msr_get_feature_list()]


def handle_system_get_msrs(_: System, entries: Sequence[kvm_msr_entry]) -> int:
    """KVM_GET_MSRS: fills `data` up to the first MSR that is no feature; returns how many."""
    features = dict(pp_op.msr_get_feature_list())
    for done, entry in enumerate(entries):
        if entry.index not in features:
            return done
        entry.data = features[entry.index]
    return len(entries)
