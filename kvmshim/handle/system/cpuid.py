"""KVM_GET_SUPPORTED_CPUID: what the processor can show to a guest."""

from collections.abc import Sequence

from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from kvmshim.handle.cpuid_leaf import from_cdl
from kvmshim.objects.system import System
from microv.ops import pp as pp_op


def handle_system_get_supported_cpuid(_: System) -> Sequence[kvm_cpuid_entry2]:
    """The leaves the engine supports, among them the two of the paravirtual interface."""
    return [from_cdl(entry) for entry in pp_op.cpuid_get_supported_list()]
