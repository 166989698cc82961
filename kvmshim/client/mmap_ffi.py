"""mmap(2) at chosen addresses of this process, and holes in files: what the standard library lacks.

Linux on x86-64. Failures are OSErrors. The caller owns every address it gets until `unmap`.
"""

import mmap
import os
from typing import Any, Final

from kvmshim.client import libc_gen

_ffi: Final[Any] = libc_gen.ffi
_libc: Final[Any] = _ffi.dlopen(None)

_MAP_FIXED: Final = 0x10
_MAP_NORESERVE: Final = 0x4000
_FALLOC_FL_KEEP_SIZE: Final = 1
_FALLOC_FL_PUNCH_HOLE: Final = 2
_FAILED: Final = (1 << 64) - 1
PROT_NONE: Final = 0


def _map(address: int, size: int, protection: int, flags: int, fd: int, offset: int) -> int:
    pointer = _libc.mmap(_ffi.cast("void *", address), size, protection, flags, fd, offset)
    result = int(_ffi.cast("uintptr_t", pointer))
    if result == _FAILED:
        number = _ffi.errno
        raise OSError(number, os.strerror(number))
    return result


def reserve(size: int, alignment: int = 1, offset: int = 0) -> int:
    """An inaccessible, page-aligned range of addresses with nothing behind it. It begins `offset`
    bytes behind a multiple of `alignment`."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    if alignment <= mmap.PAGESIZE:
        return _map(0, size, PROT_NONE, flags, -1, 0)
    start = _map(0, size + alignment, PROT_NONE, flags, -1, 0)
    before = (offset - start) % alignment
    if before:
        unmap(start, before)
    unmap(start + before + size, alignment - before)
    return start + before


def map_file_at(address: int, size: int, fd: int, offset: int, *, writable: bool) -> None:
    """Puts a shared mapping of a file over part of a reserved range."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    _map(address, size, protection, mmap.MAP_SHARED | _MAP_FIXED, fd, offset)


def map_code(size: int, fd: int) -> int:
    """The address of a private mapping of the file's start that can be executed, not written."""
    return _map(0, size, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, fd, 0)


def unmap(address: int, size: int) -> None:
    """Gives a range back."""
    if _libc.munmap(_ffi.cast("void *", address), size) < 0:
        number = _ffi.errno
        raise OSError(number, os.strerror(number))


def punch_hole(fd: int, offset: int, size: int) -> None:
    """fallocate(2): a part of a file gives its memory back and is zero, also where it is mapped."""
    if _libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE, offset, size) < 0:
        number = _ffi.errno
        raise OSError(number, os.strerror(number))
