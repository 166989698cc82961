"""KVM_GET_SUPPORTED_HV_CPUID of the system: what a guest of Hyper-V can be shown."""

from collections.abc import Sequence

from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from kvmshim.handle.hyperv_leaves import hyperv_leaves
from kvmshim.objects.system import System
from microv.ops import pp as pp_op


def handle_system_get_supported_hv_cpuid(_: System) -> Sequence[kvm_cpuid_entry2]:
    """The ten leaves, for vCPUs that have a local APIC in the VM."""
    return hyperv_leaves(pp_op.hyperv_cpuid_get_supported_list())
