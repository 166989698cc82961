"""KVM_GET_MP_STATE and KVM_SET_MP_STATE.

`Documentation/virt/kvm/api.rst`; what is refused follows kvm_arch_vcpu_ioctl_set_mpstate in
`arch/x86/kvm/x86.c`. Without a local APIC in the engine nobody could wake a vCPU from another state
than KVM_MP_STATE_RUNNABLE, so that is the only one.
"""

import errno
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_mp_state
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Irqchip
from microv import abi_gen as mv
from microv.ops import vs as vs_op

_STATES: Final = {
    mv.mv_mp_state_t_initial: kvm.KVM_MP_STATE_UNINITIALIZED,
    mv.mv_mp_state_t_running: kvm.KVM_MP_STATE_RUNNABLE,
    mv.mv_mp_state_t_wait: kvm.KVM_MP_STATE_HALTED,
    mv.mv_mp_state_t_init: kvm.KVM_MP_STATE_INIT_RECEIVED,
    mv.mv_mp_state_t_sipi: kvm.KVM_MP_STATE_SIPI_RECEIVED,
}
_NUMBERS: Final = {state: number for number, state in _STATES.items()}
_WAITING: Final = {mv.mv_mp_state_t_init, mv.mv_mp_state_t_sipi}


def handle_vcpu_get_mp_state(vcpu: Vcpu) -> kvm_mp_state:
    """KVM_GET_MP_STATE, with an INIT or a start-up that has come already."""
    if vcpu.vm.irqchip is Irqchip.NONE:
        return kvm_mp_state(mp_state=kvm.KVM_MP_STATE_RUNNABLE)
    return kvm_mp_state(mp_state=_STATES[vs_op.mp_state_get(vcpu.vsid)])


def handle_vcpu_set_mp_state(vcpu: Vcpu, state: kvm_mp_state) -> None:
    """KVM_SET_MP_STATE. With KVM_MP_STATE_SIPI_RECEIVED the vCPU starts at the vector of
    KVM_SET_VCPU_EVENTS.

    Errors: EINVAL (no such state; any but runnable without a local APIC in the engine; to wait for
    a start-up while an SMI waits or is handled).
    """
    if vcpu.vm.irqchip is Irqchip.NONE:
        if state.mp_state != kvm.KVM_MP_STATE_RUNNABLE:
            raise KvmError(errno.EINVAL, f"mp state {state.mp_state} needs KVM_CREATE_IRQCHIP")
        return
    number = _NUMBERS.get(state.mp_state)
    if number is None:
        raise KvmError(errno.EINVAL, f"there is no mp state {state.mp_state}")
    if number in _WAITING and _has_smi(vcpu):
        raise KvmError(errno.EINVAL, "an SMI comes before the start-up")
    vs_op.mp_state_set(vcpu.vsid, number, vcpu.sipi_vector)


def _has_smi(vcpu: Vcpu) -> bool:
    return vs_op.event_get_all(vcpu.vsid).flags & (mv.MV_EVENT_SMI | mv.MV_EVENT_SMM) != 0
