"""The process that cleans up after a server that could not do so itself.

A child, forked early, that holds nothing but a pipe. The server tells it beforehand what it is
about to make: a mount, a file. When the pipe closes without a farewell (SIGKILL, a crash) the
child removes those, the youngest first.
"""

import contextlib
import errno
import json
import os
import signal
import stat
from collections.abc import Callable
from typing import NamedTuple

from kvmshim.device import mount_ffi
from kvmshim.device.mount_table import KVMSHIM_TYPE, top_mount

_FAREWELL = "farewell"


class Leftover(NamedTuple):
    """Something to remove: kind is `mount`, `placeholder` or `node`."""

    kind: str
    path: str
    device: int = 0
    """Of a node: its device number."""


Expect = Callable[[Leftover], None]
"""Says what is about to be made."""


def remove(leftover: Leftover, *, dead_only: bool) -> None:
    """Remove it if it is there. `dead_only` spares a mount that another server has put there."""
    path = leftover.path
    with contextlib.suppress(OSError):
        if leftover.kind == "mount":
            mount = top_mount(path)
            if mount and mount.kind == KVMSHIM_TYPE and not (dead_only and answers(path)):
                mount_ffi.unmount(path)
        elif leftover.kind == "placeholder":
            if is_placeholder(path):
                os.unlink(path)
        elif leftover.kind == "node" and os.lstat(path).st_rdev == leftover.device:
            os.unlink(path)


def answers(path: str) -> bool:
    """Whether a server is behind the mount on `path`: an open always asks it.

    Not for the process that serves it.
    """
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.ENOTCONN, errno.ECONNABORTED)
    return True


def is_placeholder(path: str) -> bool:
    """Whether `path` is a file as the FUSE door makes them to mount on: empty, no permissions."""
    status = os.lstat(path)
    return stat.S_ISREG(status.st_mode) and not stat.S_IMODE(status.st_mode) and not status.st_size


class Janitor:
    """The server's side."""

    def __init__(self) -> None:
        """Fork. The process must have one thread and no FUSE connection yet."""
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ours)
            _serve(theirs)
        os.close(theirs)
        self._pipe = ours
        self._leftovers: list[Leftover] = []

    def expect(self, leftover: Leftover) -> None:
        """Call before making the thing."""
        self._leftovers.append(leftover)
        self._tell(leftover)

    def clean_up(self) -> None:
        """Remove everything now, and dismiss the child."""
        while self._leftovers:
            remove(self._leftovers.pop(), dead_only=False)
        self._tell(Leftover(_FAREWELL, ""))
        os.close(self._pipe)
        os.waitpid(self.pid, 0)

    def _tell(self, leftover: Leftover) -> None:
        # A janitor that somebody killed is missed only if we are killed too.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, json.dumps(leftover).encode() + b"\n")


def _serve(pipe: int) -> None:
    """The child: outlive the server and whatever signals its group."""
    status = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        with os.fdopen(pipe) as lines:
            leftovers = [Leftover(*json.loads(line)) for line in lines if line.endswith("\n")]
        if not leftovers or leftovers[-1].kind != _FAREWELL:
            for leftover in reversed(leftovers):
                remove(leftover, dead_only=True)
        status = 0
    finally:
        os._exit(status)
