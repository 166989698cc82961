"""Device attributes of a vCPU (KVM_CAP_VCPU_ATTRIBUTES): the offset of its time-stamp counter.

`Documentation/virt/kvm/devices/vcpu.rst`, "KVM_VCPU_TSC_CTRL". The guest reads the host's counter,
scaled to its own frequency, plus the offset; at the host's frequency nothing is scaled.
"""

import errno

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_device_attr
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from kvmshim.platform.caller import Caller
from microv.ops import vs as vs_op

_OFFSET_BYTES = 8


def handle_vcpu_has_device_attr(_: Vcpu, attribute: kvm_device_attr, __: Caller) -> None:
    """KVM_HAS_DEVICE_ATTR of a vCPU. Errors: ENXIO (unknown group or attribute)."""
    if (attribute.group, attribute.attr) != (kvm.KVM_VCPU_TSC_CTRL, kvm.KVM_VCPU_TSC_OFFSET):
        raise KvmError(errno.ENXIO, f"no attribute {attribute.group:#x}:{attribute.attr:#x}")


def handle_vcpu_get_device_attr(vcpu: Vcpu, attribute: kvm_device_attr, caller: Caller) -> None:
    """KVM_GET_DEVICE_ATTR of a vCPU: 64 bits at `addr`. Errors: ENXIO, EFAULT."""
    handle_vcpu_has_device_attr(vcpu, attribute, caller)
    offset = vs_op.tsc_get_offset(vcpu.vsid)
    caller.copy_out(attribute.addr, offset.to_bytes(_OFFSET_BYTES, "little"))


def handle_vcpu_set_device_attr(vcpu: Vcpu, attribute: kvm_device_attr, caller: Caller) -> None:
    """KVM_SET_DEVICE_ATTR of a vCPU: 64 bits from `addr`. Errors: ENXIO, EFAULT."""
    handle_vcpu_has_device_attr(vcpu, attribute, caller)
    offset = caller.copy_in(attribute.addr, _OFFSET_BYTES)
    vs_op.tsc_set_offset(vcpu.vsid, int.from_bytes(offset, "little"))
