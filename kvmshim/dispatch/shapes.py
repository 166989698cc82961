"""The shapes of an ioctl's argument: a number, a structure in, a structure out.

A shape answers a request by calling a handler, and copies what goes in and out in the order
Linux does: EFAULT on the way in comes before anything the handler finds.
"""

import errno
from collections.abc import Callable
from ctypes import Structure, c_uint64, sizeof
from typing import Any

from kvmshim.abi.structs_gen import kvm_signal_mask
from kvmshim.dispatch.request import NewFile, Reply, Request
from kvmshim.errors import KvmError

Shape = Callable[[Request], Reply]
Handler = Callable[..., Any]
"""Takes the target, then what its shape decodes."""
Layout = type[Structure] | type[c_uint64]


def nothing(handler: Handler) -> Shape:
    """`handler(target) -> result`. The argument must be 0 (EINVAL)."""

    def answer(request: Request) -> Reply:
        if request.arg != 0:
            raise KvmError(errno.EINVAL, f"argument {request.arg:#x} is not 0")
        result: int = handler(request.target)
        return result

    return answer


def ignores_argument(handler: Handler) -> Shape:
    """`handler(target) -> result`, whatever the argument is."""

    def answer(request: Request) -> Reply:
        result: int = handler(request.target)
        return result

    return answer


def number(handler: Handler) -> Shape:
    """`handler(target, number, caller) -> result`; no result is 0."""

    def answer(request: Request) -> Reply:
        result: int | None = handler(request.target, request.arg, request.caller)
        return result or 0

    return answer


def new_file(handler: Handler) -> Shape:
    """`handler(target, number, caller) -> object`; the result is a file that stands for it."""

    def answer(request: Request) -> Reply:
        return NewFile(handler(request.target, request.arg, request.caller))

    return answer


def new_file_of(layout: Layout, handler: Handler) -> Shape:
    """As `new_file`, of a structure that is copied in; the file survives exec."""

    def answer(request: Request) -> Reply:
        made = handler(request.target, _copy_in(layout, request), request.caller)
        return NewFile(made, close_on_exec=False)

    return answer


def takes(layout: Layout, handler: Handler, *, before: Handler = lambda _target: None) -> Shape:
    """`handler(target, structure)`; the structure is copied in.

    `before(target)` is asked first: what it refuses comes before EFAULT.
    """

    def answer(request: Request) -> Reply:
        before(request.target)
        handler(request.target, _copy_in(layout, request))
        return 0

    return answer


def takes_and_counts(layout: Layout, handler: Handler) -> Shape:
    """`handler(target, structure) -> result`; the structure is copied in."""

    def answer(request: Request) -> Reply:
        result: int = handler(request.target, _copy_in(layout, request))
        return result

    return answer


def takes_memory(layout: Layout, handler: Handler) -> Shape:
    """`handler(target, structure, caller)`, for what needs the caller's memory besides."""

    def answer(request: Request) -> Reply:
        handler(request.target, _copy_in(layout, request), request.caller)
        return 0

    return answer


def exchanges(layout: Layout, handler: Handler, *, after_failure: bool = False) -> Shape:
    """`handler(target, structure) -> structure`; copied in, and the answer out.

    `after_failure`: what was copied in is copied out again where the handler fails, so that EFAULT
    on the way out comes before its error.
    """

    def answer(request: Request) -> Reply:
        given = _copy_in(layout, request)
        try:
            left = handler(request.target, given)
        except KvmError:
            if after_failure:
                request.caller.copy_out(request.arg, bytes(given))
            raise
        request.caller.copy_out(request.arg, bytes(left))
        return 0

    return answer


def gives(handler: Handler) -> Shape:
    """`handler(target) -> structure`; the structure is copied out."""

    def answer(request: Request) -> Reply:
        request.caller.copy_out(request.arg, bytes(handler(request.target)))
        return 0

    return answer


def takes_signal_set(handler: Handler) -> Shape:
    """`handler(target, set)`; the set follows its length in bytes, and Linux has one length (EINVAL
    for others)."""

    def answer(request: Request) -> Reply:
        head = kvm_signal_mask.from_buffer_copy(
            request.caller.copy_in(request.arg, sizeof(kvm_signal_mask))
        )
        if head.len != sizeof(c_uint64):
            raise KvmError(errno.EINVAL, f"a signal set of {head.len} bytes")
        signals = request.caller.copy_in(request.arg + sizeof(kvm_signal_mask), sizeof(c_uint64))
        handler(request.target, int.from_bytes(signals, "little"))
        return 0

    return answer


def _copy_in(layout: Layout, request: Request) -> Structure | c_uint64:
    return layout.from_buffer_copy(request.caller.copy_in(request.arg, sizeof(layout)))
