"""The leaves of CPUID that KVM_GET_SUPPORTED_HV_CPUID gives, of a vCPU and of the system."""

import struct
from collections.abc import Iterable
from typing import Final

from kvmshim.abi import profiles
from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from kvmshim.handle.cpuid_leaf import from_cdl
from microv.cdl import CdlEntry

_VENDOR: Final = 0x4000_0000


def hyperv_leaves(supported: Iterable[CdlEntry]) -> list[kvm_cpuid_entry2]:
    """These leaves, the hypervisor called as `--hyperv-name` says."""
    leaves = [from_cdl(entry) for entry in supported]
    name = profiles.hyperv_name()
    for leaf in leaves:
        if name is not None and leaf.function == _VENDOR:
            leaf.ebx, leaf.ecx, leaf.edx = struct.unpack("<3I", name)
    return leaves
