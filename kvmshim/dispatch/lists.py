"""Ioctls whose structure ends in a list: MSRs and CPUID leaves.

The head says how many entries follow. Which count is too large, and whether the count needed is
written back, differs by ioctl; it follows `arch/x86/kvm/x86.c` and `cpuid.c`.
"""

import errno
import struct
from collections.abc import Sequence
from ctypes import Structure, sizeof
from typing import Final, TypeVar

from kvmshim.abi import limits
from kvmshim.abi.structs_gen import (
    kvm_cpuid2,
    kvm_cpuid_entry,
    kvm_cpuid_entry2,
    kvm_irq_routing,
    kvm_irq_routing_entry,
    kvm_msr_entry,
    kvm_msr_list,
    kvm_msrs,
)
from kvmshim.dispatch.request import Reply, Request
from kvmshim.dispatch.shapes import Handler, Shape
from kvmshim.errors import KvmError

_Entry = TypeVar("_Entry", bound=Structure)

_INDEX: Final = struct.Struct("<I")


def gives_msr_indexes(handler: Handler) -> Shape:
    """`handler(target) -> indexes`. E2BIG, with the count needed, when they do not fit."""

    def answer(request: Request) -> Reply:
        caller, address = request.caller, request.arg
        room = kvm_msr_list.from_buffer_copy(caller.copy_in(address, sizeof(kvm_msr_list))).nmsrs
        indexes: Sequence[int] = handler(request.target)
        caller.copy_out(address, bytes(kvm_msr_list(nmsrs=len(indexes))))
        if room < len(indexes):
            raise KvmError(errno.E2BIG, f"{len(indexes)} MSRs, room for {room}")
        packed = b"".join(map(_INDEX.pack, indexes))
        caller.copy_out(address + sizeof(kvm_msr_list), packed)
        return 0

    return answer


def reads_msrs(handler: Handler) -> Shape:
    """`handler(target, entries) -> count`; the entries are copied in and back out."""

    def answer(request: Request) -> Reply:
        entries = _msr_entries(request)
        count: int = handler(request.target, entries)
        packed = b"".join(map(bytes, entries))
        request.caller.copy_out(request.arg + sizeof(kvm_msrs), packed)
        return count

    return answer


def writes_msrs(handler: Handler) -> Shape:
    """`handler(target, entries) -> count`; the entries are copied in."""

    def answer(request: Request) -> Reply:
        count: int = handler(request.target, _msr_entries(request))
        return count

    return answer


def _msr_entries(request: Request) -> list[kvm_msr_entry]:
    head = kvm_msrs.from_buffer_copy(request.caller.copy_in(request.arg, sizeof(kvm_msrs)))
    if head.nmsrs >= limits.MAX_IO_MSRS:
        raise KvmError(errno.E2BIG, f"{head.nmsrs} MSRs at once")
    return _entries(request, kvm_msr_entry, request.arg + sizeof(kvm_msrs), head.nmsrs)


def gives_supported_cpuid(handler: Handler) -> Shape:
    """`handler(target) -> leaves`. E2BIG, nothing written, when they do not fit."""

    def answer(request: Request) -> Reply:
        room = _cpuid_head(request).nent
        if room < 1:
            raise KvmError(errno.E2BIG, "no room for a leaf")
        leaves: Sequence[kvm_cpuid_entry2] = handler(request.target)
        if min(room, limits.KVM_MAX_CPUID_ENTRIES) < len(leaves):
            raise KvmError(errno.E2BIG, f"{len(leaves)} leaves, room for {room}")
        _copy_out_leaves(request, leaves)
        return 0

    return answer


def gives_emulated_cpuid(handler: Handler) -> Shape:
    """As `gives_supported_cpuid`; EINVAL where the client's entries have padding that is not 0, or
    cannot be read.
    """
    shape = gives_supported_cpuid(handler)

    def answer(request: Request) -> Reply:
        count = min(_cpuid_head(request).nent, limits.KVM_MAX_CPUID_ENTRIES)
        try:
            given = _entries(request, kvm_cpuid_entry2, request.arg + sizeof(kvm_cpuid2), count)
        except KvmError as error:
            raise KvmError(errno.EINVAL, f"of {count} entries some cannot be read") from error
        if any(any(entry.padding) for entry in given):
            raise KvmError(errno.EINVAL, "the padding of an entry is not 0")
        return shape(request)

    return answer


def gives_cpuid(handler: Handler) -> Shape:
    """`handler(target) -> leaves`. E2BIG, nothing written, when they do not fit."""

    def answer(request: Request) -> Reply:
        room = _cpuid_head(request).nent
        leaves: Sequence[kvm_cpuid_entry2] = handler(request.target)
        if room < len(leaves):
            raise KvmError(errno.E2BIG, f"{len(leaves)} leaves, room for {room}")
        _copy_out_leaves(request, leaves)
        return 0

    return answer


def takes_cpuid(
    handler: Handler, layout: type[kvm_cpuid_entry2 | kvm_cpuid_entry] = kvm_cpuid_entry2
) -> Shape:
    """`handler(target, leaves)`; the leaves are copied in. E2BIG above 256 of them."""

    def answer(request: Request) -> Reply:
        count = _cpuid_head(request).nent
        if count > limits.KVM_MAX_CPUID_ENTRIES:
            raise KvmError(errno.E2BIG, f"{count} leaves")
        address = request.arg + sizeof(kvm_cpuid2)
        handler(request.target, _entries(request, layout, address, count))
        return 0

    return answer


def takes_routing(handler: Handler, *, before: Handler) -> Shape:
    """`handler(target, entries)`; EINVAL above KVM_MAX_IRQ_ROUTES of them.

    `before(target, head)` is asked first: what it refuses comes before EFAULT from the entries.
    """

    def answer(request: Request) -> Reply:
        packed = request.caller.copy_in(request.arg, sizeof(kvm_irq_routing))
        head = kvm_irq_routing.from_buffer_copy(packed)
        if head.nr > limits.KVM_MAX_IRQ_ROUTES:
            raise KvmError(errno.EINVAL, f"{head.nr} routes")
        before(request.target, head)
        address = request.arg + sizeof(kvm_irq_routing)
        handler(request.target, _entries(request, kvm_irq_routing_entry, address, head.nr))
        return 0

    return answer


def _cpuid_head(request: Request) -> kvm_cpuid2:
    return kvm_cpuid2.from_buffer_copy(request.caller.copy_in(request.arg, sizeof(kvm_cpuid2)))


def _copy_out_leaves(request: Request, leaves: Sequence[kvm_cpuid_entry2]) -> None:
    head = bytes(kvm_cpuid2(nent=len(leaves)))
    request.caller.copy_out(request.arg, head)
    request.caller.copy_out(request.arg + len(head), b"".join(map(bytes, leaves)))


def _entries(request: Request, layout: type[_Entry], address: int, count: int) -> list[_Entry]:
    packed = request.caller.copy_in(address, count * sizeof(layout))
    return [
        layout.from_buffer_copy(packed, offset) for offset in range(0, len(packed), sizeof(layout))
    ]
