"""The thread that opens kvmshim's own FUSE files on the server's behalf.

A server that opens a file it serves itself, and is killed while it waits, waits for ever, unless
who waits has no descriptor of `/dev/fuse`: see `kvmshim/door/src/opener.rs`.
"""

import os
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Final

from kvmshim.device.door import DoorError

_REPLY: Final = struct.Struct("<i4xQQ")
"""An errno or 0, the device, the inode."""
_OPEN: Final = b"o"
_OPEN_TO_READ: Final = b"r"
_STAT: Final = b"s"


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A descriptor that the receiver owns, and the file's identity as `/proc/PID/maps` shows it."""

    fd: int
    device: int
    inode: int


class Opener:
    """Starts the thread and speaks to it; one request at a time, from any thread."""

    def __init__(self) -> None:
        """After the last fork. DoorError: there is no such thread to be had."""
        try:
            # Not before it is needed: `check` and `--help` do without the engine.
            from kvmshim.device.door_ffi import start_opener
        except ImportError as error:
            raise DoorError(f"the engine is not built: {error}") from error
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        try:
            self.tid = start_opener(theirs.detach())
        except OSError as error:
            self._socket.close()
            raise DoorError(f"no thread can open kvmshim's files: {error.strerror}") from error

    def open(self, directory_fd: int, name: str, *, writable: bool = True) -> OpenedFile:
        """Open `name`, also for writing or not, in the mount that `directory_fd` stands for.

        OSError with the open's errno.
        """
        what = _OPEN if writable else _OPEN_TO_READ
        return self._ask(what + name.encode(), [directory_fd])

    def stat(self, path: str) -> None:
        """stat(2) `path`, so that its server is asked for what the kernel does not know yet.

        OSError with the stat's errno.
        """
        self._ask(_STAT + os.fsencode(path), [])

    def _ask(self, request: bytes, directory: list[int]) -> OpenedFile:
        with self._lock:
            socket.send_fds(self._socket, [request], directory)
            reply, fds, _, _ = socket.recv_fds(
                self._socket, _REPLY.size, 1, socket.MSG_CMSG_CLOEXEC
            )
        if not reply:
            raise ConnectionResetError("the opener is gone")
        number, device, inode = _REPLY.unpack(reply)
        if number:
            raise OSError(number, os.strerror(number))
        return OpenedFile(fds[0] if fds else -1, device, inode)
