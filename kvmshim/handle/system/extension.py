"""KVM_CHECK_EXTENSION, on the system fd and, as KVM_CAP_CHECK_EXTENSION_VM says, on a VM's."""

from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import profiles
from kvmshim.abi.caps import CAPABILITIES
from kvmshim.objects.system import System
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller

_OF_PRIVATE_MEMORY: Final = (kvm.KVM_CAP_GUEST_MEMFD, kvm.KVM_CAP_MEMORY_ATTRIBUTES)


def handle_check_extension(target: System | Vm, capability: int, _: Caller) -> int:
    """The value of a capability; 0 for one that is not there, or not for this VM. Never fails."""
    answer = profiles.chosen_answer(capability)
    if answer is not None:
        return answer
    if not profiles.has_capability(capability):
        return 0
    if isinstance(target, Vm):
        if capability in _OF_PRIVATE_MEMORY and not target.has_private_memory:
            return 0
        if capability == kvm.KVM_CAP_MULTI_ADDRESS_SPACE:
            return target.address_spaces
    return CAPABILITIES.get(capability, 0)
