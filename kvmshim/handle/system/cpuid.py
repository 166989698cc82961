"""KVM_GET_SUPPORTED_CPUID: what the processor can show to a guest."""

from collections.abc import Sequence

from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from kvmshim.handle.cpuid_leaf import from_cdl
from kvmshim.objects.system import System
from microv.ops import pp as pp_op

_KVM_CPUID_SIGNATURE = 0x4000_0000
"""`arch/x86/include/uapi/asm/kvm_para.h`; the leaf after it holds the paravirtual features."""


def handle_system_get_supported_cpuid(_: System) -> Sequence[kvm_cpuid_entry2]:
    """The leaves the engine supports, and KVM's own two."""
    entries = [from_cdl(entry) for entry in pp_op.cpuid_get_supported_list()]
    entries += _paravirtual_leaves()
    return sorted(entries, key=lambda entry: (entry.function, entry.index))


def _paravirtual_leaves() -> list[kvm_cpuid_entry2]:
    """The signature and the features of `Documentation/virt/kvm/x86/cpuid.rst`; none yet."""
    ebx, ecx, edx = (int.from_bytes(word, "little") for word in (b"KVMK", b"VMKV", b"M\0\0\0"))
    features = _KVM_CPUID_SIGNATURE + 1
    return [
        kvm_cpuid_entry2(function=_KVM_CPUID_SIGNATURE, eax=features, ebx=ebx, ecx=ecx, edx=edx),
        kvm_cpuid_entry2(function=features),
    ]
