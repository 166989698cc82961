"""clone(2) with CLONE_UNTRACED: a child that a tracer of ours does not get.

A process has one tracer, and the command's must be us. Under `strace -f` children are traced from
their birth by who traces the parent, unless the parent asks that they are not.
"""

import os
import signal
from pathlib import Path
from typing import Any, Final

from kvmshim.device import libc_gen

_SYS_CLONE: Final = 56
_CLONE_UNTRACED: Final = 0x0080_0000

_ffi: Final[Any] = libc_gen.ffi
_libc: Final[Any] = _ffi.dlopen(None)


def fork_for_us() -> int:
    """As os.fork, in a process with one thread whose child soon calls exec."""
    if not _is_traced():
        return os.fork()
    flags = _CLONE_UNTRACED | signal.SIGCHLD
    null = _ffi.cast("long", 0)
    pid = int(_libc.syscall(_SYS_CLONE, _ffi.cast("long", flags), null, null, null, null))
    if pid < 0:
        raise OSError(_ffi.errno, os.strerror(_ffi.errno))
    return pid


def _is_traced() -> bool:
    status = Path("/proc/self/status").read_text().splitlines()
    return any(line.split() != ["TracerPid:", "0"] for line in status if "TracerPid" in line)
