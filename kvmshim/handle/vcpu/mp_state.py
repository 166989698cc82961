"""KVM_GET_MP_STATE and KVM_SET_MP_STATE.

Without an in-kernel interrupt controller nobody could wake a vCPU from another state than
KVM_MP_STATE_RUNNABLE, so that is the only one a client may set.
"""

import errno

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_mp_state
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu


def handle_vcpu_get_mp_state(_: Vcpu) -> kvm_mp_state:
    """KVM_GET_MP_STATE: runnable, whether or not the vCPU has run."""
    return kvm_mp_state(mp_state=kvm.KVM_MP_STATE_RUNNABLE)


def handle_vcpu_set_mp_state(_: Vcpu, state: kvm_mp_state) -> None:
    """KVM_SET_MP_STATE. Errors: EINVAL (any state but runnable)."""
    if state.mp_state != kvm.KVM_MP_STATE_RUNNABLE:
        raise KvmError(errno.EINVAL, f"mp state {state.mp_state} needs KVM_CREATE_IRQCHIP")
