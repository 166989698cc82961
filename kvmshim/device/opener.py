"""The process that opens kvmshim's own FUSE files on the server's behalf.

A server that opens a file it serves itself, and is killed while it waits, waits for ever: the
kernel aborts a FUSE connection when the last descriptor of `/dev/fuse` closes, and that one is the
waiting process's. So a child, forked before any `/dev/fuse` is open, opens the files and sends
them over. It holds no connection, and ends when its socket does.
"""

import os
import signal
import socket
import struct
import threading
from dataclasses import dataclass

_REPLY = struct.Struct("<iQQ")
_OPEN = b"o"
_OPEN_TO_READ = b"r"
_STAT = b"s"
_MAX_REQUEST = 8192


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A descriptor that the receiver owns, and the file's identity as `/proc/PID/maps` shows it."""

    fd: int
    device: int
    inode: int


class Opener:
    """Starts the child and speaks to it; one request at a time, from any thread."""

    def __init__(self) -> None:
        """Fork. The process must have one thread and no FUSE connection yet."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _serve(theirs)
        theirs.close()
        self._socket = ours
        self._lock = threading.Lock()

    def open(self, directory_fd: int, name: str, *, writable: bool = True) -> OpenedFile:
        """Open `name`, also for writing or not, in the mount that `directory_fd` stands for.

        OSError with the open's errno; ECONNRESET if the child is gone.
        """
        what = _OPEN if writable else _OPEN_TO_READ
        return self._ask(what + name.encode(), [directory_fd])

    def stat(self, path: str) -> None:
        """stat(2) `path`, so that its server is asked for what the kernel does not know yet.

        OSError with the stat's errno; ECONNRESET if the child is gone.
        """
        self._ask(_STAT + os.fsencode(path), [])

    def close(self) -> None:
        """End the child and wait for it."""
        self._socket.close()
        os.waitpid(self.pid, 0)

    def _ask(self, request: bytes, directory: list[int]) -> OpenedFile:
        with self._lock:
            socket.send_fds(self._socket, [request], directory)
            reply, fds, _, _ = socket.recv_fds(
                self._socket, _REPLY.size, 1, socket.MSG_CMSG_CLOEXEC
            )
        if not reply:
            raise ConnectionResetError("the opener process is gone")
        number, device, inode = _REPLY.unpack(reply)
        if number:
            raise OSError(number, os.strerror(number))
        return OpenedFile(fds[0] if fds else -1, device, inode)


def _serve(channel: socket.socket) -> None:
    """The child: answer until the server's end closes. A stop is the server's to decide."""
    status = 1
    try:
        # The terminal and a service manager signal whole groups.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        while True:
            request, fds, _, _ = socket.recv_fds(channel, _MAX_REQUEST, 1, socket.MSG_CMSG_CLOEXEC)
            if not request:
                break
            _answer(channel, request[:1], request[1:], fds)
        status = 0
    finally:
        os._exit(status)


def _answer(channel: socket.socket, what: bytes, path: bytes, directory: list[int]) -> None:
    opened = []
    try:
        if what in (_OPEN, _OPEN_TO_READ):
            access = os.O_RDWR if what == _OPEN else os.O_RDONLY
            opened.append(os.open(path, access | os.O_CLOEXEC, dir_fd=directory[0]))
            status = os.fstat(opened[0])
        else:
            status = os.stat(path)
        socket.send_fds(channel, [_REPLY.pack(0, status.st_dev, status.st_ino)], opened)
    except OSError as error:
        channel.sendmsg([_REPLY.pack(error.errno or 0, 0, 0)])
    finally:
        for fd in (*directory, *opened):
            os.close(fd)
