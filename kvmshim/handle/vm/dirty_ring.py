"""KVM_CAP_DIRTY_LOG_RING and KVM_RESET_DIRTY_RINGS: written pages in a ring of each vCPU.

`Documentation/virt/kvm/api.rst`, section 8, "KVM_CAP_DIRTY_LOG_RING". The rings take the place of
KVM_GET_DIRTY_LOG. Entries come when a vCPU leaves the guest, as on processors that log by
themselves: who wants to see all of them makes it leave.
"""

import errno
from ctypes import sizeof
from typing import Final

from kvmshim.abi import limits
from kvmshim.abi.structs_gen import kvm_dirty_gfn
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller
from microv.ops import vm as vm_op

_SMALLEST: Final = max(limits.KVM_DIRTY_RING_RSVD_ENTRIES * sizeof(kvm_dirty_gfn), limits.PAGE_SIZE)


def enable(vm: Vm, size: int) -> None:
    """KVM_ENABLE_CAP of KVM_CAP_DIRTY_LOG_RING: vCPUs get rings of `size` bytes; under `vm.lock`.

    Errors: EINVAL (no power of two; too few entries; rings are enabled already, or there is a
    vCPU), E2BIG (more than KVM_DIRTY_RING_MAX_ENTRIES).
    """
    if size.bit_count() != 1 or size < _SMALLEST:
        raise KvmError(errno.EINVAL, f"a dirty ring cannot have {size:#x} bytes")
    if size > limits.KVM_DIRTY_RING_MAX_ENTRIES * sizeof(kvm_dirty_gfn):
        raise KvmError(errno.E2BIG, f"a dirty ring cannot have {size:#x} bytes")
    if vm.dirty_ring_size or vm.vcpus:
        raise KvmError(errno.EINVAL, "dirty rings come before the first vCPU, and once")
    vm_op.dirty_log_note(vm.vmid)
    vm.dirty_ring_size = size
    for slot in vm.slots.values():
        vm.door.set_slot(slot.number, slot.mv_gpa, slot.size)


def handle_vm_reset_dirty_rings(vm: Vm, _: int, __: Caller) -> int:
    """KVM_RESET_DIRTY_RINGS: entries that the client has marked KVM_DIRTY_GFN_F_RESET are free, and
    their pages logged anew. How many those are. Errors: EINVAL (there are no rings)."""
    with vm.lock:
        if not vm.dirty_ring_size:
            raise KvmError(errno.EINVAL, "the VM has no dirty rings")
        return vm.door.reset_rings()
