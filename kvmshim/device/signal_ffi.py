"""signalfd(2): signals as records that say who sent them."""

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from kvmshim.device import libc_gen

_SFD_NONBLOCK = 0o4000
_SFD_CLOEXEC = 0o2000000
_RECORD_SIZE = 128

_ffi: Final[Any] = libc_gen.ffi
_libc: Final[Any] = _ffi.dlopen(None)


@dataclass(frozen=True, slots=True)
class Received:
    """One signal."""

    number: signal.Signals
    from_process: bool
    """False where the kernel sent it, as a terminal does to its foreground group."""
    sender: int
    """Process id, 0 where it is unknown."""


def open_signals(numbers: Iterable[signal.Signals]) -> int:
    """Block `numbers` for this thread and those it starts; a descriptor to read them from."""
    numbers = list(numbers)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    mask = _ffi.new("sigset_t *")
    _libc.sigemptyset(mask)
    for number in numbers:
        _libc.sigaddset(mask, number)
    fd = int(_libc.signalfd(-1, mask, _SFD_NONBLOCK | _SFD_CLOEXEC))
    if fd < 0:
        raise OSError(_ffi.errno, os.strerror(_ffi.errno))
    return fd


def read_signal(fd: int) -> Received | None:
    """The next signal, None if there is none."""
    try:
        record = os.read(fd, _RECORD_SIZE)
    except BlockingIOError:
        return None
    number, _, code, sender = (
        int.from_bytes(record[at : at + 4], "little", signed=True) for at in (0, 4, 8, 12)
    )
    return Received(signal.Signals(number), code <= 0, sender)
