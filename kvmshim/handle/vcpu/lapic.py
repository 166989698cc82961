"""KVM_GET_LAPIC and KVM_SET_LAPIC: the registers of a local APIC in the engine.

`Documentation/virt/kvm/api.rst`. The layout is that of the APIC's page in xAPIC mode; in x2APIC
mode the ID has the xAPIC format, as KVM_CAP_X2APIC_API is not there.
"""

import errno

from kvmshim.abi.structs_gen import kvm_lapic_state
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Irqchip
from microv.ops import vs as vs_op


def handle_vcpu_get_lapic(vcpu: Vcpu) -> kvm_lapic_state:
    """KVM_GET_LAPIC. Errors: EINVAL (no local APIC in the engine)."""
    _check(vcpu)
    return kvm_lapic_state.from_buffer_copy(vs_op.lapic_get_all(vcpu.vsid))


def handle_vcpu_set_lapic(vcpu: Vcpu, state: kvm_lapic_state) -> None:
    """KVM_SET_LAPIC. Errors: EINVAL (no local APIC in the engine)."""
    _check(vcpu)
    vs_op.lapic_set_all(vcpu.vsid, bytes(state))


def _check(vcpu: Vcpu) -> None:
    if vcpu.vm.irqchip is Irqchip.NONE:
        raise KvmError(errno.EINVAL, "the vCPU has no local APIC")
