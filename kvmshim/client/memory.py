"""Copies between a client's memory and ours, with the faults that the kernel's copies would have.

A page that the client itself could not read (or write) faults here too. Large copies are done in
parts; another thread of the client may see or change the first part before the last is copied.
"""

import errno
from typing import Final

from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.errors import KvmError

_MAX_PART: Final = 1 << 30
_USER_END: Final = 1 << 47  # without 5-level paging, which no client asks for


def read_available(pid: int, address: int, size: int) -> bytes:
    """What can be read of [address, address+size) from its start; empty where nothing can.

    ESRCH, EPERM: the process is gone, or not ours to read.
    """
    if address < 0 or address + size > _USER_END:
        return b""
    buffer = bytearray(size)
    done = 0
    while done < size:
        try:
            end = min(done + _MAX_PART, size)
            done += ptrace.read_memory_into(pid, address + done, buffer, done, end)
        except OSError as error:
            if error.errno == errno.EFAULT:
                break
            raise KvmError(error.errno or errno.EIO, f"client {pid} cannot be read") from error
    del buffer[done:]
    return bytes(buffer)


def read_exactly(pid: int, address: int, size: int) -> bytes:
    """All `size` bytes. EFAULT: some of them cannot be read."""
    data = read_available(pid, address, size)
    if len(data) != size:
        raise KvmError(errno.EFAULT, f"cannot read {size} bytes at {address:#x}")
    return data


def write_available(pid: int, address: int, data: bytes) -> int:
    """Writes `data` up to the first page that cannot be written; the number of bytes written."""
    if address < 0 or address + len(data) > _USER_END:
        return 0
    done = 0
    while done < len(data):
        try:
            done += ptrace.write_memory(pid, address + done, data, done)
        except OSError as error:
            if error.errno == errno.EFAULT:
                break
            raise KvmError(error.errno or errno.EIO, f"client {pid} cannot be written") from error
    return done


def write_exactly(pid: int, address: int, data: bytes) -> None:
    """All of `data`. EFAULT: some of it cannot be written; what comes before that is."""
    if write_available(pid, address, data) != len(data):
        raise KvmError(errno.EFAULT, f"cannot write {len(data)} bytes at {address:#x}")
