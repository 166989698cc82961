"""sched_setattr(2): how long this process's threads run at a time.

A client whose own threads keep the processors busy waits for us at each of its ioctls. A thread
that asks for short slices gets its turn sooner after it has slept, and no more processor time;
Linux knows the wish since 6.12, and older ones ignore it.
"""

import os
from typing import Any, Final

from kvmshim.device import libc_gen

SLICE_NS: Final = 100_000
"""The shortest that Linux grants."""

_SYS_SCHED_SETATTR: Final = 314

_ffi: Final[Any] = libc_gen.ffi
_libc: Final[Any] = _ffi.dlopen(None)


def ask_for_short_slices() -> None:
    """For this thread and those it starts, unless it was given another policy than the usual one.

    Policy and niceness stay. A kernel that refuses is left alone: all works, only later.
    """
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    attributes = _ffi.new("struct sched_attr *")
    attributes.size = _ffi.sizeof(attributes[0])
    attributes.policy = os.SCHED_OTHER
    attributes.nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes.runtime = SLICE_NS
    flags = _ffi.cast("unsigned int", 0)
    _libc.syscall(_SYS_SCHED_SETATTR, _ffi.cast("int", 0), attributes, flags)
