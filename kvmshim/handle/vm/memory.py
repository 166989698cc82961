"""KVM_SET_USER_MEMORY_REGION: memory slots.

`Documentation/virt/kvm/api.rst`, KVM_SET_USER_MEMORY_REGION; the order of the checks is that of
`__kvm_set_memory_region` in `virt/kvm/kvm_main.c`, because it is visible. A slot is made
(size > 0, number free), deleted (size 0), moved (other address) or has its flags changed. The
address space that vCPUs see in system management mode has slots of its own.
"""

import errno
from dataclasses import replace

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import limits
from kvmshim.abi.structs_gen import kvm_userspace_memory_region
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Slot, Vm
from kvmshim.platform.caller import Caller
from microv import abi_gen as mv
from microv.ops import vm as vm_op

_VALID_FLAGS = kvm.KVM_MEM_LOG_DIRTY_PAGES | kvm.KVM_MEM_READONLY
_PAGE_MASK = limits.PAGE_SIZE - 1
_READ_EXECUTE = mv.MV_MAP_FLAG_READ_ACCESS | mv.MV_MAP_FLAG_EXECUTE_ACCESS


def handle_vm_set_user_memory_region(
    vm: Vm, region: kvm_userspace_memory_region, caller: Caller
) -> None:
    """KVM_SET_USER_MEMORY_REGION.

    Errors: EINVAL (unknown flags; size, guest or user address not page aligned or out of range;
    slot or address space out of range; deleting a slot that is not there; changing the size, the
    user address or KVM_MEM_READONLY of one that is), EEXIST (overlaps another slot of its
    address space), EFAULT
    (nothing mapped at the user address).
    """
    _check_ranges(region)
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


def _check_ranges(region: kvm_userspace_memory_region) -> None:
    size, gpa, hva = region.memory_size, region.guest_phys_addr, region.userspace_addr
    space, slot = region.slot >> 16, region.slot & 0xFFFF
    if slot >= limits.KVM_USER_MEM_SLOTS:
        raise KvmError(errno.EINVAL, f"slot {slot:#x} is out of range")
    if region.flags & ~_VALID_FLAGS:
        raise KvmError(errno.EINVAL, f"flags {region.flags:#x} are not known")
    if size & _PAGE_MASK or gpa & _PAGE_MASK or hva & _PAGE_MASK:
        raise KvmError(errno.EINVAL, f"gpa {gpa:#x}, size {size:#x} or address {hva:#x} unaligned")
    if hva + size > limits.TASK_SIZE_MAX:
        raise KvmError(errno.EINVAL, f"{hva:#x}+{size:#x} is not user memory")
    if space >= limits.KVM_ADDRESS_SPACES:
        raise KvmError(errno.EINVAL, f"address space {space} is not there")
    if gpa + size > mv.MV_MAX_GPA or size // limits.PAGE_SIZE > limits.KVM_MEM_MAX_NR_PAGES:
        raise KvmError(errno.EINVAL, f"gpa {gpa:#x}+{size:#x} is out of range")


def _check_free(vm: Vm, region: kvm_userspace_memory_region, moved: Slot | None = None) -> None:
    space, gpa = region.slot >> 16, region.guest_phys_addr
    for slot in vm.slots.values():
        if slot is not moved and slot.overlaps(space, gpa, region.memory_size):
            raise KvmError(errno.EEXIST, f"overlaps slot {slot.number:#x} at {slot.gpa:#x}")


def _create(vm: Vm, region: kvm_userspace_memory_region, caller: Caller) -> None:
    memory = caller.share_memory(region.userspace_addr, region.memory_size)
    slot = Slot(
        number=region.slot,
        flags=region.flags,
        gpa=region.guest_phys_addr,
        size=region.memory_size,
        hva=region.userspace_addr,
        memory=memory,
    )
    try:
        _map(vm, slot)
    except BaseException:
        memory.close()
        raise
    vm.slots[slot.number] = slot


def _delete(vm: Vm, slot: Slot) -> None:
    _unmap(vm, slot)
    del vm.slots[slot.number]
    slot.memory.close()


def _change(vm: Vm, old: Slot, region: kvm_userspace_memory_region) -> None:
    if (
        region.userspace_addr != old.hva
        or region.memory_size != old.size
        or (region.flags ^ old.flags) & kvm.KVM_MEM_READONLY
    ):
        raise KvmError(errno.EINVAL, f"slot {old.number:#x} keeps size, address and READONLY")
    new = replace(old, gpa=region.guest_phys_addr, flags=region.flags)
    if new.gpa != old.gpa:
        _check_free(vm, region, moved=old)
        _unmap(vm, old)
        _map(vm, new)
    elif new.logs_writes != old.logs_writes:
        _log_writes(vm, new)
    vm.slots[new.number] = new


def _map(vm: Vm, slot: Slot) -> None:
    flags = _READ_EXECUTE
    if not slot.flags & kvm.KVM_MEM_READONLY:
        flags |= mv.MV_MAP_FLAG_WRITE_ACCESS
    if slot.logs_writes:
        flags |= mv.MV_MAP_FLAG_LOG_WRITES
    vm_op.mmio_map(vm.vmid, [(slot.mv_gpa, slot.memory.address, slot.size, flags)])
    if slot.logs_writes and vm.manual_dirty_log & kvm.KVM_DIRTY_LOG_INITIALLY_SET:
        _log_writes(vm, slot)


def _log_writes(vm: Vm, slot: Slot) -> None:
    """A new log, or none, as the slot's flags say."""
    all_written = bool(vm.manual_dirty_log & kvm.KVM_DIRTY_LOG_INITIALLY_SET)
    on = slot.logs_writes
    vm_op.dirty_log_set(vm.vmid, slot.mv_gpa, slot.size, on=on, all_written=all_written)


def _unmap(vm: Vm, slot: Slot) -> None:
    vm_op.mmio_unmap(vm.vmid, [(slot.mv_gpa, slot.size)])
