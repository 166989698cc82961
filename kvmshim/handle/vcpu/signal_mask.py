"""KVM_SET_SIGNAL_MASK: the signals that KVM_RUN does not block."""

from typing import Final

from kvmshim.objects.vcpu import Vcpu

_SIGKILL, _SIGSTOP = 9, 19
_NEVER_BLOCKED: Final = 1 << _SIGKILL - 1 | 1 << _SIGSTOP - 1


def handle_vcpu_set_signal_mask(vcpu: Vcpu, blocked: int) -> None:
    """KVM_SET_SIGNAL_MASK: during KVM_RUN `blocked` takes the place of what the thread blocks; a
    pending signal that it lacks ends KVM_RUN with EINTR.

    Errors: ENOMEM.
    """
    assert vcpu.signals is not None, "a vCPU whose file exists has its door"
    vcpu.signals.set_mask(blocked & ~_NEVER_BLOCKED)
