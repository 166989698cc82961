"""KVM_GET_LAPIC and KVM_SET_LAPIC: the registers of a local APIC in the engine.

`Documentation/virt/kvm/api.rst`. The layout is that of the APIC's page in xAPIC mode; in x2APIC
mode the ID has the xAPIC format, unless the VM has KVM_X2APIC_API_USE_32BIT_IDS.
"""

import errno
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.msr_index import MSR_IA32_APICBASE, X2APIC_ENABLE
from kvmshim.abi.structs_gen import kvm_lapic_state
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Irqchip
from microv.ops import vs as vs_op

_ID: Final = slice(0x20, 0x24)


def handle_vcpu_get_lapic(vcpu: Vcpu) -> kvm_lapic_state:
    """KVM_GET_LAPIC. Errors: EINVAL (no local APIC in the engine)."""
    _check(vcpu)
    image = bytearray(vs_op.lapic_get_all(vcpu.vsid))
    if _has_wide_id(vcpu):
        image[_ID] = vcpu.vcpu_id.to_bytes(4, "little")
    return kvm_lapic_state.from_buffer_copy(image)


def handle_vcpu_set_lapic(vcpu: Vcpu, state: kvm_lapic_state) -> None:
    """KVM_SET_LAPIC. In x2APIC mode the ID is that of the vCPU.

    Errors: EINVAL (no local APIC in the engine; with 32-bit IDs, another vCPU's).
    """
    _check(vcpu)
    image = bytes(state)
    if _has_wide_id(vcpu) and int.from_bytes(image[_ID], "little") != vcpu.vcpu_id:
        raise KvmError(errno.EINVAL, f"the APIC's ID is not {vcpu.vcpu_id}")
    vs_op.lapic_set_all(vcpu.vsid, image)


def _has_wide_id(vcpu: Vcpu) -> bool:
    """The ID in an image has 32 bits."""
    wide = vcpu.vm.x2apic_api & kvm.KVM_X2APIC_API_USE_32BIT_IDS
    return bool(wide and vs_op.msr_get(vcpu.vsid, MSR_IA32_APICBASE) & X2APIC_ENABLE)


def _check(vcpu: Vcpu) -> None:
    if vcpu.vm.irqchip is Irqchip.NONE:
        raise KvmError(errno.EINVAL, "the vCPU has no local APIC")
