"""The search for CPUID instructions in files, by a process that ends when it is no longer asked.

The decoder and its tables are a tenth of a daemon's memory, and nobody needs them any more once a
VMM and its libraries are loaded.
"""

import mmap
import os
import socket
import struct
import sys
from contextlib import suppress
from typing import Final

from kvmshim.client.elf import ElfError

_PROGRAM: Final = ("-P", "-m", "kvmshim.client.cpuid_search")
_IDLE_SECONDS: Final = 3
_REQUEST: Final = b"?"
_FOUND: Final = b"+"
_REFUSED: Final = b"-"
_MAX_ANSWER: Final = 1 << 20
_OFFSET: Final = struct.Struct("<Q")


class CpuidSearch:
    """Starts the process when it is needed. For one thread, whose child it is."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._pid = 0

    def sites(self, fd: int) -> tuple[int, ...]:
        """As `cpuid_sites`, of an open file. ElfError; OSError: it cannot be searched."""
        try:
            answer = self._ask(fd) or self._ask(fd)  # it may just have ended
        except PermissionError:  # who we have become may not execute what executes us
            answer = _answer(fd)
        if not answer:
            raise ChildProcessError("the search for CPUID instructions ended early")
        if answer[:1] == _REFUSED:
            raise ElfError(answer[1:].decode(errors="replace"))
        return tuple(offset for (offset,) in _OFFSET.iter_unpack(answer[1:]))

    def close(self) -> None:
        """End the process, if there is one, and reap it."""
        if self._channel is None:
            return
        self._channel.close()
        self._channel = None
        with suppress(ChildProcessError):  # whoever waits for all children may have had it
            os.waitpid(self._pid, 0)

    def _ask(self, fd: int) -> bytes:
        """Empty: the process has ended."""
        if self._channel is None:
            self._channel, self._pid = _start()
        try:
            socket.send_fds(self._channel, [_REQUEST], [fd])
            answer = self._channel.recv(_MAX_ANSWER)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        if not answer:
            self.close()
        return answer


def _start() -> tuple[socket.socket, int]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, *_PROGRAM],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
        )
    return ours, pid


def _serve(channel: socket.socket) -> None:
    """Answers until nobody has asked for a while."""
    channel.settimeout(_IDLE_SECONDS)
    while True:
        try:
            request, fds, _, _ = socket.recv_fds(channel, len(_REQUEST), 1)
        except TimeoutError:
            return
        if not request:
            return
        channel.send(_answer(fds[0]))
        os.close(fds[0])


def _answer(fd: int) -> bytes:
    # Not where the process is only started from.
    from kvmshim.client.cpuid_sites import cpuid_sites

    try:
        with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as image:
            return _FOUND + b"".join(_OFFSET.pack(site) for site in cpuid_sites(image))
    except (ValueError, OSError) as error:  # an empty file; one that cannot be mapped
        return _REFUSED + str(error).encode()


if __name__ == "__main__":
    with socket.socket(fileno=0) as server:
        _serve(server)
