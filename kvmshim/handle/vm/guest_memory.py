"""KVM_CREATE_GUEST_MEMFD, and fallocate(2) and close(2) of what it makes.

`Documentation/virt/kvm/api.rst`, KVM_CREATE_GUEST_MEMFD; `virt/kvm/guest_memfd.c`. Its memory can
be mapped by no client. It is used through slots, until the file is closed.
"""

import errno
from dataclasses import replace
from typing import Final

from kvmshim.abi import limits
from kvmshim.abi.structs_gen import kvm_create_guest_memfd
from kvmshim.errors import KvmError
from kvmshim.handle.vm import slot_pages
from kvmshim.objects.guest_memory import GuestMemory
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller

_PAGE_MASK: Final = limits.PAGE_SIZE - 1
_MAX_SIZE: Final = 1 << 63

# fallocate(2), `linux/falloc.h`
KEEP_SIZE: Final = 1
PUNCH_HOLE: Final = 2


def handle_vm_create_guest_memfd(
    vm: Vm, wanted: kvm_create_guest_memfd, caller: Caller
) -> GuestMemory:
    """KVM_CREATE_GUEST_MEMFD. The file keeps the VM.

    Errors: EINVAL (a flag; no size, or one that is not page aligned or beyond 2^63), ENOMEM.
    """
    if wanted.flags:
        raise KvmError(errno.EINVAL, f"flags {wanted.flags:#x} are not known")
    if not 0 < wanted.size < _MAX_SIZE or wanted.size & _PAGE_MASK:
        raise KvmError(errno.EINVAL, f"a guest_memfd cannot have {wanted.size:#x} bytes")
    memory = GuestMemory(vm, caller.make_memory(wanted.size))
    with vm.lock:
        vm.files += 1
    return memory


def allocate(memory: GuestMemory, mode: int, offset: int, size: int) -> None:
    """fallocate(2): takes memory from the host beforehand, or with PUNCH_HOLE gives it back.

    Errors: EOPNOTSUPP (without KEEP_SIZE, or an unknown mode), EINVAL (not page aligned; beyond
    the end, unless a hole is punched), ENOSPC.
    """
    if not mode & KEEP_SIZE or mode & ~(KEEP_SIZE | PUNCH_HOLE):
        raise KvmError(errno.EOPNOTSUPP, f"mode {mode:#x}")
    if (offset | size) & _PAGE_MASK:
        raise KvmError(errno.EINVAL, f"{offset:#x}+{size:#x} is not page aligned")
    end = offset + size
    if mode & PUNCH_HOLE:
        end = min(end, memory.file.size)
        if offset < end:
            memory.file.discard(offset, end - offset)
        return
    if end > memory.file.size:
        raise KvmError(errno.EINVAL, f"{offset:#x}+{size:#x} is beyond {memory.file.size:#x}")
    memory.file.allocate(offset, size)


def close(memory: GuestMemory) -> None:
    """The file is closed: slots lose what they have of it. The VM is still to be released."""
    vm = memory.vm
    with vm.lock:
        for number, slot in list(vm.slots.items()):
            if slot.private and slot.private.of is memory:
                slot_pages.forget_private(vm, slot)
                slot.private.memory.close()
                vm.slots[number] = replace(slot, private=None)
    memory.file.close()
