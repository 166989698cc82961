"""A CPUID leaf in KVM's spelling and in MicroV's: `kvm_cpuid_entry2`, `mv_cdl_entry_t`.

Both mark a leaf with subleaves by the same bit, KVM_CPUID_FLAG_SIGNIFCANT_INDEX.
"""

from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from microv import abi_gen as mv
from microv.cdl import CdlEntry

ADDRESS_SIZES: Final = 0x8000_0008
"""The leaf whose EAX has the physical address bits in 7:0 and the linear ones in 15:8."""


def to_cdl(entry: kvm_cpuid_entry2) -> CdlEntry:
    """For the engine."""
    indexed = entry.flags & kvm.KVM_CPUID_FLAG_SIGNIFCANT_INDEX
    return CdlEntry(
        function=entry.function,
        index=entry.index,
        flags=mv.MV_CPUID_FLAG_SIGNIFICANT_INDEX if indexed else 0,
        eax=entry.eax,
        ebx=entry.ebx,
        ecx=entry.ecx,
        edx=entry.edx,
    )


def from_cdl(entry: CdlEntry) -> kvm_cpuid_entry2:
    """For the client."""
    indexed = entry.flags & mv.MV_CPUID_FLAG_SIGNIFICANT_INDEX
    return kvm_cpuid_entry2(
        function=entry.function,
        index=entry.index,
        flags=kvm.KVM_CPUID_FLAG_SIGNIFCANT_INDEX if indexed else 0,
        eax=entry.eax,
        ebx=entry.ebx,
        ecx=entry.ecx,
        edx=entry.edx,
    )
