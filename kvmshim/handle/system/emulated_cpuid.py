"""KVM_GET_EMULATED_CPUID: features whose instructions KVM executes itself where the CPU has none.

Here no CPU executes the guest, so the list says which of these the engine has; as in KVM it is
made of leaves 0, 1 and 7.
"""

from collections.abc import Sequence
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from kvmshim.objects.system import System
from microv.ops import pp as pp_op

_MOVBE: Final = 1 << 22
_RDPID: Final = 1 << 22


def handle_system_get_emulated_cpuid(_: System) -> Sequence[kvm_cpuid_entry2]:
    """KVM_GET_EMULATED_CPUID: MOVBE and RDPID."""
    leaf1, leaf7 = pp_op.cpuid_get_supported(1), pp_op.cpuid_get_supported(7)
    return [
        kvm_cpuid_entry2(function=0, eax=7),
        kvm_cpuid_entry2(function=1, ecx=leaf1.ecx & _MOVBE),
        kvm_cpuid_entry2(
            function=7, flags=kvm.KVM_CPUID_FLAG_SIGNIFCANT_INDEX, ecx=leaf7.ecx & _RDPID
        ),
    ]
