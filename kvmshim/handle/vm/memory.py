"""KVM_SET_USER_MEMORY_REGION and KVM_SET_USER_MEMORY_REGION2: memory slots.

`Documentation/virt/kvm/api.rst`, KVM_SET_USER_MEMORY_REGION; the order of the checks is that of
`__kvm_set_memory_region` in `virt/kvm/kvm_main.c`, because it is visible. A slot is made
(size > 0, number free), deleted (size 0), moved (other address) or has its flags changed. One with
a guest_memfd stays as it was made. The address space that vCPUs see in system management mode has
slots of its own.
"""

import errno
from ctypes import sizeof
from dataclasses import replace
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import limits
from kvmshim.abi.structs_gen import kvm_userspace_memory_region, kvm_userspace_memory_region2
from kvmshim.errors import KvmError
from kvmshim.handle.vm import slot_pages
from kvmshim.objects.guest_memory import GuestMemory
from kvmshim.objects.vm import PrivateMemory, Slot, Vm
from kvmshim.platform.caller import Caller, SharedMemory
from microv import abi_gen as mv
from microv.ops import vm as vm_op

_FIRST_FLAGS: Final = kvm.KVM_MEM_LOG_DIRTY_PAGES | kvm.KVM_MEM_READONLY
"""All that KVM_SET_USER_MEMORY_REGION knows."""
_PAGE_MASK: Final = limits.PAGE_SIZE - 1


def handle_vm_set_user_memory_region(
    vm: Vm, region: kvm_userspace_memory_region, caller: Caller
) -> None:
    """KVM_SET_USER_MEMORY_REGION.

    Errors: EINVAL (unknown flags; size, guest or user address not page aligned or out of range;
    slot or address space out of range; deleting a slot that is not there; changing the size, the
    user address or KVM_MEM_READONLY of one that is), EEXIST (overlaps another slot of its
    address space), EFAULT (nothing mapped at the user address).
    """
    if region.flags & ~_FIRST_FLAGS:
        raise KvmError(errno.EINVAL, f"flags {region.flags:#x} are not known")
    image = bytes(region).ljust(sizeof(kvm_userspace_memory_region2), b"\0")
    wider = kvm_userspace_memory_region2.from_buffer_copy(image)
    handle_vm_set_user_memory_region2(vm, wider, caller)


def handle_vm_set_user_memory_region2(
    vm: Vm, region: kvm_userspace_memory_region2, caller: Caller
) -> None:
    """KVM_SET_USER_MEMORY_REGION2, with KVM_MEM_GUEST_MEMFD for private pages.

    Errors: those of KVM_SET_USER_MEMORY_REGION; EINVAL (a VM without private memory; together with
    other flags; changing such a slot; no guest_memfd of this VM; the part of it is not page
    aligned, beyond its end, or another slot's), EBADF (no file).
    """
    _check_ranges(vm, region)
    with vm.lock:
        old = vm.slots.get(region.slot)
        if region.memory_size == 0:
            if old is None:
                raise KvmError(errno.EINVAL, f"slot {region.slot:#x} is not there to delete")
            _delete(vm, old)
        elif old is None:
            _check_free(vm, region)
            _create(vm, region, caller)
        else:
            _change(vm, old, region)


def _valid_flags(vm: Vm, flags: int) -> int:
    """With `flags`, those among which they must be."""
    if flags & kvm.KVM_MEM_GUEST_MEMFD:
        return kvm.KVM_MEM_GUEST_MEMFD if vm.has_private_memory else 0
    return _FIRST_FLAGS


def _check_ranges(vm: Vm, region: kvm_userspace_memory_region2) -> None:
    size, gpa, hva = region.memory_size, region.guest_phys_addr, region.userspace_addr
    space, slot = region.slot >> 16, region.slot & 0xFFFF
    if slot >= limits.KVM_USER_MEM_SLOTS:
        raise KvmError(errno.EINVAL, f"slot {slot:#x} is out of range")
    if region.flags & ~_valid_flags(vm, region.flags):
        raise KvmError(errno.EINVAL, f"flags {region.flags:#x} are not known")
    if (size | gpa | hva) & _PAGE_MASK:
        raise KvmError(errno.EINVAL, f"gpa {gpa:#x}, size {size:#x} or address {hva:#x} unaligned")
    if hva + size > limits.TASK_SIZE_MAX:
        raise KvmError(errno.EINVAL, f"{hva:#x}+{size:#x} is not user memory")
    if region.flags & kvm.KVM_MEM_GUEST_MEMFD and region.guest_memfd_offset & _PAGE_MASK:
        raise KvmError(errno.EINVAL, f"offset {region.guest_memfd_offset:#x} is unaligned")
    if space >= vm.address_spaces:
        raise KvmError(errno.EINVAL, f"address space {space} is not there")
    if gpa + size > mv.MV_MAX_GPA or size // limits.PAGE_SIZE > limits.KVM_MEM_MAX_NR_PAGES:
        raise KvmError(errno.EINVAL, f"gpa {gpa:#x}+{size:#x} is out of range")


def _check_free(vm: Vm, region: kvm_userspace_memory_region2, moved: Slot | None = None) -> None:
    space, gpa = region.slot >> 16, region.guest_phys_addr
    for slot in vm.slots.values():
        if slot is not moved and slot.overlaps(space, gpa, region.memory_size):
            raise KvmError(errno.EEXIST, f"overlaps slot {slot.number:#x} at {slot.gpa:#x}")


def _create(vm: Vm, region: kvm_userspace_memory_region2, caller: Caller) -> None:
    of = _guest_memory(vm, region, caller)
    memory = _client_memory(region, caller, optional=of is not None)
    slot = Slot(
        number=region.slot,
        flags=region.flags,
        gpa=region.guest_phys_addr,
        size=region.memory_size,
        hva=region.userspace_addr,
        memory=memory,
    )
    try:
        if of:
            private = of.file.map(region.guest_memfd_offset, region.memory_size)
            part = PrivateMemory(of, region.guest_memfd_offset, private)
            slot = replace(slot, private=part)
        _map(vm, slot)
    except BaseException:
        slot.close()
        raise
    _place(vm, slot)


def _client_memory(
    region: kvm_userspace_memory_region2, caller: Caller, *, optional: bool
) -> SharedMemory:
    """What the client has at the user address. Where it has nothing and need not, for all that
    counts is private, zeros of ours take its place."""
    try:
        return caller.share_memory(region.userspace_addr, region.memory_size)
    except KvmError as error:
        if not optional or error.errno != errno.EFAULT:
            raise
    zeros = caller.make_memory(region.memory_size)
    try:
        return zeros.map(0, region.memory_size)
    finally:
        zeros.close()


def _guest_memory(
    vm: Vm, region: kvm_userspace_memory_region2, caller: Caller
) -> GuestMemory | None:
    """The guest_memfd of a new slot."""
    if not region.flags & kvm.KVM_MEM_GUEST_MEMFD:
        return None
    memory = caller.kept_file(region.guest_memfd)
    if not isinstance(memory, GuestMemory) or memory.vm is not vm:
        raise KvmError(errno.EINVAL, f"fd {region.guest_memfd} is no guest_memfd of this VM")
    start, end = region.guest_memfd_offset, region.guest_memfd_offset + region.memory_size
    if end > memory.file.size:
        raise KvmError(errno.EINVAL, f"the guest_memfd ends at {memory.file.size:#x}")
    for slot in vm.slots.values():
        part = slot.private
        if part and part.of is memory and part.offset < end and start < part.offset + slot.size:
            raise KvmError(errno.EINVAL, f"slot {slot.number:#x} has that part of the guest_memfd")
    return memory


def _delete(vm: Vm, slot: Slot) -> None:
    slot_pages.unmap_slot(vm, slot)
    del vm.slots[slot.number]
    if vm.dirty_ring_size:
        vm.door.set_slot(slot.number, 0, 0)
    slot.close()


def _change(vm: Vm, old: Slot, region: kvm_userspace_memory_region2) -> None:
    if (
        region.userspace_addr != old.hva
        or region.memory_size != old.size
        or (region.flags ^ old.flags) & kvm.KVM_MEM_READONLY
        or (region.flags | old.flags) & kvm.KVM_MEM_GUEST_MEMFD
    ):
        raise KvmError(errno.EINVAL, f"slot {old.number:#x} keeps size, address and kind")
    new = replace(old, gpa=region.guest_phys_addr, flags=region.flags)
    if new.gpa != old.gpa:
        _check_free(vm, region, moved=old)
        slot_pages.unmap_slot(vm, old)
        _map(vm, new)
    elif new.logs_writes != old.logs_writes:
        _log_writes(vm, new)
    _place(vm, new)


def _place(vm: Vm, slot: Slot) -> None:
    vm.slots[slot.number] = slot
    if vm.dirty_ring_size:
        vm.door.set_slot(slot.number, slot.mv_gpa, slot.size)


def _map(vm: Vm, slot: Slot) -> None:
    slot_pages.map_slot(vm, slot)
    if slot.logs_writes and vm.manual_dirty_log & kvm.KVM_DIRTY_LOG_INITIALLY_SET:
        _log_writes(vm, slot)


def _log_writes(vm: Vm, slot: Slot) -> None:
    """A new log, or none, as the slot's flags say."""
    all_written = bool(vm.manual_dirty_log & kvm.KVM_DIRTY_LOG_INITIALLY_SET)
    on = slot.logs_writes
    vm_op.dirty_log_set(vm.vmid, slot.mv_gpa, slot.size, on=on, all_written=all_written)
