"""The process that opens kvmshim's own FUSE files on the server's behalf.

A server that opens a file it serves itself, and is killed while it waits, waits for ever: the
kernel aborts a FUSE connection when the last descriptor of `/dev/fuse` closes, and that one is the
waiting process's. So a child opens the files and sends them over. It holds no connection, and ends
when its socket does.
"""

import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from typing import Final

from kvmshim.device import opener_program
from kvmshim.device.opener_program import OPEN, OPEN_TO_READ, REPLY, STAT

_INTERPRETER: Final = ("-I", "-S")
"""Neither the environment nor packages change what it does."""
_GROUP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""What terminals and service managers send to whole groups. A stop is the server's to decide."""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A descriptor that the receiver owns, and the file's identity as `/proc/PID/maps` shows it."""

    fd: int
    device: int
    inode: int


class Opener:
    """Starts the child and speaks to it; one request at a time, from any thread."""

    def __init__(self) -> None:
        """The process must have one thread and no FUSE connection yet: it may have to fork."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.pid = _execute(theirs)
        except OSError:  # who we have become may not execute what executes us
            self.pid = _fork(theirs, ours)
        theirs.close()
        self._socket = ours
        self._lock = threading.Lock()

    def open(self, directory_fd: int, name: str, *, writable: bool = True) -> OpenedFile:
        """Open `name`, also for writing or not, in the mount that `directory_fd` stands for.

        OSError with the open's errno; ECONNRESET if the child is gone.
        """
        what = OPEN if writable else OPEN_TO_READ
        return self._ask(what + name.encode(), [directory_fd])

    def stat(self, path: str) -> None:
        """stat(2) `path`, so that its server is asked for what the kernel does not know yet.

        OSError with the stat's errno; ECONNRESET if the child is gone.
        """
        self._ask(STAT + os.fsencode(path), [])

    def close(self) -> None:
        """End the child and wait for it."""
        self._socket.close()
        os.waitpid(self.pid, 0)

    def _ask(self, request: bytes, directory: list[int]) -> OpenedFile:
        with self._lock:
            socket.send_fds(self._socket, [request], directory)
            reply, fds, _, _ = socket.recv_fds(self._socket, REPLY.size, 1, socket.MSG_CMSG_CLOEXEC)
        if not reply:
            raise ConnectionResetError("the opener process is gone")
        number, device, inode = REPLY.unpack(reply)
        if number:
            raise OSError(number, os.strerror(number))
        return OpenedFile(fds[0] if fds else -1, device, inode)


def _execute(channel: socket.socket) -> int:
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *_INTERPRETER, opener_program.__file__],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, channel.fileno(), 0)],
        setsigmask=_GROUP_SIGNALS,
    )


def _fork(channel: socket.socket, ours: socket.socket) -> int:
    """The same, with all that this process has."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
            ours.close()
            opener_program.serve(channel)
        finally:
            os._exit(0)
    return pid
