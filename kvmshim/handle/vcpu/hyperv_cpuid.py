"""KVM_GET_SUPPORTED_HV_CPUID of a vCPU: what its guest can be shown of Hyper-V."""

from collections.abc import Sequence

from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from kvmshim.handle.hyperv_leaves import hyperv_leaves
from kvmshim.objects.vcpu import Vcpu
from microv.ops import vs as vs_op


def handle_vcpu_get_supported_hv_cpuid(vcpu: Vcpu) -> Sequence[kvm_cpuid_entry2]:
    """The ten leaves; without a local APIC in the VM some bits are missing."""
    return hyperv_leaves(vs_op.hyperv_cpuid_get_supported_list(vcpu.vsid))
