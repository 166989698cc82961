"""KVM_CAP_SYNC_REGS: registers that travel in `kvm_run` with KVM_RUN, not by ioctls of their own.

`Documentation/virt/kvm/api.rst`, section 6, "KVM_CAP_SYNC_REGS"; what each set of registers means
is its ioctl's business. The door calls this before and after KVM_RUN, in the vCPU's turn; the
general registers (KVM_SYNC_X86_REGS) it exchanges itself.
"""

import logging
from collections.abc import Callable
from ctypes import Structure, sizeof
from typing import Any, Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_sregs, kvm_sync_regs, kvm_vcpu_events
from kvmshim.errors import KvmError
from kvmshim.handle.vcpu import events, sregs
from kvmshim.objects.vcpu import Vcpu
from microv.status import MvError

_LOG: Final = logging.getLogger(__name__)

SIZE: Final = sizeof(kvm_sync_regs)

Get = Callable[[Vcpu], Structure]
Set = Callable[[Vcpu, Any], None]

_SETS: Final[tuple[tuple[int, int, type[Structure], Get, Set], ...]] = (
    (
        kvm.KVM_SYNC_X86_SREGS,
        kvm_sync_regs.sregs.offset,
        kvm_sregs,
        sregs.handle_vcpu_get_sregs,
        sregs.handle_vcpu_set_sregs,
    ),
    (
        kvm.KVM_SYNC_X86_EVENTS,
        kvm_sync_regs.events.offset,
        kvm_vcpu_events,
        events.handle_vcpu_get_vcpu_events,
        events.handle_vcpu_set_vcpu_events,
    ),
)
"""KVM_SYNC_X86_*, where it lies in `struct kvm_sync_regs`, its layout, and its ioctls' handlers."""


def load(vcpu: Vcpu, fields: int, image: bytes) -> int:
    """Sets what `fields` names from a `struct kvm_sync_regs`; returns what was set.

    It ends with the first that is refused.
    """
    done = 0
    for field, offset, layout, _, set_ in _SETS:
        if not fields & field:
            continue
        try:
            set_(vcpu, layout.from_buffer_copy(image, offset))
        except (KvmError, MvError) as error:
            _LOG.debug("KVM_RUN of vCPU %d: registers refused: %s", vcpu.vcpu_id, error)
            break
        done |= field
    return done


def store(vcpu: Vcpu, fields: int) -> list[tuple[int, bytes]]:
    """What `fields` names: offsets in a `struct kvm_sync_regs`, and what comes there."""
    return [(offset, bytes(get(vcpu))) for field, offset, _, get, _ in _SETS if fields & field]
