"""KVM_CHECK_EXTENSION, on the system fd and, as KVM_CAP_CHECK_EXTENSION_VM says, on a VM's."""

from kvmshim.abi.caps import CAPABILITIES
from kvmshim.objects.system import System
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller


def handle_check_extension(_: System | Vm, capability: int, __: Caller) -> int:
    """The value of a capability; 0 for one that is not there. Never fails."""
    return CAPABILITIES.get(capability, 0)
