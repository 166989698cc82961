"""KVM_GET_MSR_INDEX_LIST: the MSRs that KVM_GET_MSRS and KVM_SET_MSRS know."""

from collections.abc import Sequence

from kvmshim.objects.system import System
from microv.ops import pp as pp_op


def handle_system_get_msr_index_list(_: System) -> Sequence[int]:
    """Each of them can be read and written back with the value it had."""
    return pp_op.msr_get_supported_list()
