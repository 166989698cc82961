"""KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG: which pages of a slot the guest has written.

`virt/kvm/kvm_main.c`, kvm_get_dirty_log_protect and kvm_clear_dirty_log_protect; only the guest's
own writes count, the accessed and dirty bits that it makes the processor set among them. A page
may be in the log although the write faulted in the end; none is missing. In a slot that was made
with KVM_MEM_LOG_DIRTY_PAGES the first access to a page counts, whatever it is, as in KVM.
"""

import errno
from typing import Final

from kvmshim.abi import limits
from kvmshim.abi.structs_gen import kvm_clear_dirty_log, kvm_dirty_log
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Slot, Vm
from kvmshim.platform.caller import Caller
from microv.ops import vm as vm_op

_WORD_BITS: Final = 64


def handle_vm_get_dirty_log(vm: Vm, log: kvm_dirty_log, caller: Caller) -> None:
    """KVM_GET_DIRTY_LOG: a bit for each page of the slot, in whole words of 64.

    Pages that are told are clean from then on, unless KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 was
    enabled. What the guest wrote before can be read when this returns.

    Errors: EINVAL (slot or address space out of range), ENOENT (no such slot, or without
    KVM_MEM_LOG_DIRTY_PAGES), EFAULT (the bitmap; the log stays as it is then), ENXIO
    (there are dirty rings).
    """
    with vm.lock:
        _check_bitmaps(vm)
        slot = _logged_slot(vm, log.slot)
        bitmap = vm_op.dirty_log_get(vm.vmid, slot.mv_gpa, slot.size)
        caller.copy_out(log.dirty_bitmap, bitmap.ljust(_bitmap_bytes(_pages(slot)), b"\0"))
        if not vm.manual_dirty_log:
            vm_op.dirty_log_clear(vm.vmid, slot.mv_gpa, slot.size, bitmap)


def handle_vm_clear_dirty_log(vm: Vm, log: kvm_clear_dirty_log, caller: Caller) -> None:
    """KVM_CLEAR_DIRTY_LOG: makes the pages whose bits are set clean.

    Errors: EINVAL (slot or address space out of range; `first_page` no multiple of 64, or beyond
    the slot; `num_pages` beyond the slot, or neither a multiple of 64 nor up to its end), ENOENT
    (no such slot, or without KVM_MEM_LOG_DIRTY_PAGES), EFAULT (the bitmap), ENXIO (there are dirty
    rings).
    """
    with vm.lock:
        _check_bitmaps(vm)
        first, count = log.first_page, log.num_pages
        _check_number(log.slot)
        if first % _WORD_BITS:
            raise KvmError(errno.EINVAL, f"page {first:#x} does not begin a word")
        slot = _logged_slot(vm, log.slot)
        rest = _pages(slot) - first
        if rest < 0 or count > rest or (count < rest and count % _WORD_BITS):
            raise KvmError(errno.EINVAL, f"{count} pages from {first:#x} of {_pages(slot):#x}")
        bitmap = caller.copy_in(log.dirty_bitmap, _bitmap_bytes(count))
        gpa = slot.mv_gpa + first * limits.PAGE_SIZE
        vm_op.dirty_log_clear(vm.vmid, gpa, count * limits.PAGE_SIZE, bitmap)


def _check_bitmaps(vm: Vm) -> None:
    if vm.dirty_ring_size:
        raise KvmError(errno.ENXIO, "dirty rings have taken the place of the log")


def _check_number(number: int) -> None:
    space, slot = number >> 16, number & 0xFFFF
    if space >= limits.KVM_ADDRESS_SPACES or slot >= limits.KVM_USER_MEM_SLOTS:
        raise KvmError(errno.EINVAL, f"slot {number:#x} is out of range")


def _logged_slot(vm: Vm, number: int) -> Slot:
    _check_number(number)
    slot = vm.slots.get(number)
    if slot is None or not slot.logs_writes:
        raise KvmError(errno.ENOENT, f"slot {number:#x} has no dirty log")
    return slot


def _pages(slot: Slot) -> int:
    return slot.size // limits.PAGE_SIZE


def _bitmap_bytes(pages: int) -> int:
    return -(-pages // _WORD_BITS) * _WORD_BITS // 8
