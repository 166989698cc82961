"""The engine library: the only module that reaches into it.

`microv._native` is made by the build: the library, and its C declarations as Rust has them. A call
releases the interpreter lock while it is in the engine.
"""

import mmap
from typing import Any

from microv import _native

_ffi = _native.ffi


def hypercall(rax: int, r10: int, r11: int, r12: int, r13: int) -> tuple[int, int]:
    """Makes one hypercall; RAX (mv_status_t) and R10 as they come back."""
    regs: Any = _ffi.new("Regs *", (rax, r10, r11, r12, r13))
    _native.lib.mv_hypercall(regs)
    return regs.rax, regs.r10


def address_of(memory: mmap.mmap) -> int:
    """Where a writable mapping lies in this process: a root-physical address."""
    return int(_ffi.cast("uintptr_t", _ffi.from_buffer(memory, require_writable=True)))


def memory_at(address: int, size: int) -> memoryview:
    """`size` bytes at an address of this process; valid for as long as they stay mapped."""
    return memoryview(_ffi.buffer(_ffi.cast("uint8_t *", address), size)).cast("B")
