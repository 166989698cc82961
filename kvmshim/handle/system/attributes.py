"""Device attributes of the system (KVM_CAP_SYS_ATTRIBUTES): what guests can have.

`Documentation/virt/kvm/api.rst`, KVM_GET_DEVICE_ATTR and "KVM_X86_XCOMP_GUEST_SUPP".
"""

import errno

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_device_attr
from kvmshim.errors import KvmError
from kvmshim.objects.system import System
from kvmshim.platform.caller import Caller
from microv.ops import pp as pp_op

_XSAVE_LEAF = 0xD
_COMPONENTS_BYTES = 8


def handle_system_has_device_attr(_: System, attribute: kvm_device_attr, __: Caller) -> None:
    """KVM_HAS_DEVICE_ATTR of the system. Errors: ENXIO (unknown group or attribute)."""
    if attribute.group != 0 or attribute.attr != kvm.KVM_X86_XCOMP_GUEST_SUPP:
        raise KvmError(errno.ENXIO, f"no attribute {attribute.group:#x}:{attribute.attr:#x}")


def handle_system_get_device_attr(
    system: System, attribute: kvm_device_attr, caller: Caller
) -> None:
    """KVM_GET_DEVICE_ATTR of the system: the XSAVE components that XCR0 can enable, 64 bits.

    Errors: ENXIO (unknown group or attribute), EFAULT.
    """
    handle_system_has_device_attr(system, attribute, caller)
    leaf = pp_op.cpuid_get_supported(_XSAVE_LEAF, 0)
    components = leaf.edx << 32 | leaf.eax
    caller.copy_out(attribute.addr, components.to_bytes(_COMPONENTS_BYTES, "little"))
