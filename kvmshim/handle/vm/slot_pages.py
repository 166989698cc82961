"""Which memory the guest finds behind the pages of its slots, and where it must find none.

A page that is private is that of the slot's guest_memfd, any other one the client's own. Laws:
what is private and has no guest_memfd behind it is refused (KVM_EXIT_MEMORY_FAULT), and is so
before a page is taken away and until one is there: no access in between is a device's. `vm.lock`
is held by every caller.
"""

from collections.abc import Iterator
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.objects.vm import Slot, Vm
from microv import abi_gen as mv
from microv.ops import vm as vm_op

_READ_EXECUTE: Final = mv.MV_MAP_FLAG_READ_ACCESS | mv.MV_MAP_FLAG_EXECUTE_ACCESS
_ALL: Final = _READ_EXECUTE | mv.MV_MAP_FLAG_WRITE_ACCESS

Run = tuple[int, int, int, int]
"""gpa, address, bytes, MV_MAP_FLAG_*."""


def map_slot(vm: Vm, slot: Slot) -> None:
    """The guest gets the pages of a new slot. Where this fails it has none of them."""
    pieces = list(vm.private.pieces(slot.gpa, slot.gpa + slot.size))
    vm_op.mmio_map(vm.vmid, _runs(slot, pieces))
    if slot.private:
        _refuse(vm, [(start, end) for start, end, private in pieces if private], refused=False)


def unmap_slot(vm: Vm, slot: Slot) -> None:
    """Takes the pages of a slot away. When it returns no vCPU uses them any more."""
    pieces = list(vm.private.pieces(slot.gpa, slot.gpa + slot.size))
    if slot.private:
        _refuse(vm, [(start, end) for start, end, private in pieces if private], refused=True)
    vm_op.mmio_unmap(vm.vmid, [(gpa, size) for gpa, _, size, _ in _runs(slot, pieces)])


def forget_private(vm: Vm, slot: Slot) -> None:
    """The private pages of a slot go; those that the client has stay."""
    pieces = vm.private.pieces(slot.gpa, slot.gpa + slot.size)
    private = [(start, end) for start, end, private in pieces if private]
    _refuse(vm, private, refused=True)
    vm_op.mmio_unmap(vm.vmid, [(start, end - start) for start, end in private])


def make_private(vm: Vm, start: int, end: int, *, private: bool) -> None:
    """Pages of [start, end) become private, or no longer are. When it returns no vCPU uses what was
    behind them before."""
    changed = [(a, b) for a, b, was in vm.private.pieces(start, end) if was != private]
    bound: list[Run] = []
    others: list[Run] = []
    for slot in vm.slots.values():
        within = [(max(a, slot.gpa), min(b, slot.gpa + slot.size), private) for a, b in changed]
        runs = _runs(slot, [(a, b, on) for a, b, on in within if a < b], everything=True)
        (bound if slot.private else others).extend(runs)
    vm.private.change(start, end, inside=private)
    vm_op.mmio_replace(vm.vmid, bound)
    if private:
        _refuse_all_but(vm, changed, bound)
        vm_op.mmio_unmap(vm.vmid, [(gpa, size) for gpa, _, size, _ in others])
    else:
        vm_op.mmio_map(vm.vmid, others)
        _refuse(vm, changed, refused=False)


def _refuse_all_but(vm: Vm, ranges: list[tuple[int, int]], mapped: list[Run]) -> None:
    _refuse(vm, ranges, refused=True)
    _refuse(vm, [(gpa, gpa + size) for gpa, _, size, _ in mapped], refused=False)


def _refuse(vm: Vm, ranges: list[tuple[int, int]], *, refused: bool) -> None:
    for start, end in ranges:
        end = min(end, mv.MV_MAX_GPA)
        if start < end:
            vm_op.refuse_set(vm.vmid, start, end - start, refused=refused)


def _runs(
    slot: Slot, pieces: list[tuple[int, int, bool]], *, everything: bool = False
) -> list[Run]:
    """What is mapped of a slot, piece by piece (start, end, whether private); with `everything`
    also private pieces that are not, as the client's memory."""
    return list(_each_run(slot, pieces, everything))


def _each_run(slot: Slot, pieces: list[tuple[int, int, bool]], everything: bool) -> Iterator[Run]:
    for start, end, private in pieces:
        into = start - slot.gpa
        if private and slot.private:
            yield slot.mv_gpa + into, slot.private.memory.address + into, end - start, _ALL
        elif everything or not private:
            yield slot.mv_gpa + into, slot.memory.address + into, end - start, _client_flags(slot)


def _client_flags(slot: Slot) -> int:
    flags = _READ_EXECUTE
    if not slot.flags & kvm.KVM_MEM_READONLY:
        flags |= mv.MV_MAP_FLAG_WRITE_ACCESS
    if slot.logs_writes:
        flags |= mv.MV_MAP_FLAG_LOG_WRITES
    return flags
