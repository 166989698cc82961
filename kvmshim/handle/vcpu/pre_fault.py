"""KVM_PRE_FAULT_MEMORY: the host's memory behind guest pages is made present.

`Documentation/virt/kvm/api.rst`, KVM_PRE_FAULT_MEMORY.
"""

import errno
from typing import Final

from kvmshim.abi import limits
from kvmshim.abi.structs_gen import kvm_pre_fault_memory
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from microv import abi_gen as mv
from microv.ops import vm as vm_op

_PAGE_MASK: Final = limits.PAGE_SIZE - 1
_MOST_AT_ONCE: Final = 1 << 28
"""Bytes of one call: its caller cannot be interrupted, and calls again for the rest."""


def handle_vcpu_pre_fault_memory(vcpu: Vcpu, wanted: kvm_pre_fault_memory) -> kvm_pre_fault_memory:
    """KVM_PRE_FAULT_MEMORY; returns what is left to be done.

    Errors: EINVAL (a flag; no bytes, or beyond 2^64; not page aligned), ENOENT (no slot at the
    first page), EFAULT (it is private, without memory for that).
    """
    gpa, size = wanted.gpa, wanted.size
    if wanted.flags or (gpa | size) & _PAGE_MASK or not gpa < gpa + size < 1 << 64:
        raise KvmError(errno.EINVAL, f"{gpa:#x}+{size:#x}, flags {wanted.flags:#x}")
    done, end = 0, min(size, _MOST_AT_ONCE, max(mv.MV_MAX_GPA - gpa, 0))
    while done < end and (more := vm_op.populate(vcpu.vm.vmid, gpa + done, end - done)):
        done += more
    if not done:
        with vcpu.vm.lock:
            number = errno.EFAULT if gpa in vcpu.vm.private else errno.ENOENT
        raise KvmError(number, f"there is no memory at {gpa:#x}")
    return kvm_pre_fault_memory(gpa=gpa + done, size=size - done)
