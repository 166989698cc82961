"""KVM_SET_MEMORY_ATTRIBUTES: which pages of the guest are private.

`Documentation/virt/kvm/api.rst`, KVM_SET_MEMORY_ATTRIBUTES. What a page holds is not carried over:
private and shared memory are different memory.
"""

import errno

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import limits
from kvmshim.abi.structs_gen import kvm_memory_attributes
from kvmshim.errors import KvmError
from kvmshim.handle.vm import slot_pages
from kvmshim.objects.vm import Vm

_PAGE_MASK = limits.PAGE_SIZE - 1


def handle_vm_set_memory_attributes(vm: Vm, wanted: kvm_memory_attributes) -> None:
    """KVM_SET_MEMORY_ATTRIBUTES, for pages with and without a slot.

    Errors: EINVAL (a flag; an attribute that this VM has not; no bytes, or beyond 2^64; address or
    size not page aligned).
    """
    supported = kvm.KVM_MEMORY_ATTRIBUTE_PRIVATE if vm.has_private_memory else 0
    start, end = wanted.address, wanted.address + wanted.size
    if wanted.flags or wanted.attributes & ~supported:
        raise KvmError(errno.EINVAL, f"attributes {wanted.attributes:#x} flags {wanted.flags:#x}")
    if wanted.size == 0 or end >= 1 << 64 or (start | end) & _PAGE_MASK:
        raise KvmError(errno.EINVAL, f"address {start:#x} or size {wanted.size:#x}")
    with vm.lock:
        slot_pages.make_private(vm, start, end, private=bool(wanted.attributes))
