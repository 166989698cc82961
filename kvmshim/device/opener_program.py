"""The opener's program, see `kvmshim.device.opener`: opens files that it is told to open.

Executed as a file, with a socket as its standard input and nothing of kvmshim's but this: what it
imports is resident once more, beside the server.
"""

import os
import socket
import struct
from typing import Final

REPLY: Final = struct.Struct("<iQQ")
"""An errno or 0, the device, the inode."""
OPEN: Final = b"o"
OPEN_TO_READ: Final = b"r"
STAT: Final = b"s"
_MAX_REQUEST: Final = 8192


def serve(channel: socket.socket) -> None:
    """Answers until the server's end closes."""
    while True:
        request, fds, _, _ = socket.recv_fds(channel, _MAX_REQUEST, 1, socket.MSG_CMSG_CLOEXEC)
        if not request:
            break
        answer(channel, request[:1], request[1:], fds)


def answer(channel: socket.socket, what: bytes, path: bytes, directory: list[int]) -> None:
    """Sends a descriptor, its identity, or the errno; closes what came with the request."""
    opened = []
    try:
        if what in (OPEN, OPEN_TO_READ):
            access = os.O_RDWR if what == OPEN else os.O_RDONLY
            opened.append(os.open(path, access | os.O_CLOEXEC, dir_fd=directory[0]))
            status = os.fstat(opened[0])
        else:
            status = os.stat(path)
        socket.send_fds(channel, [REPLY.pack(0, status.st_dev, status.st_ino)], opened)
    except OSError as error:
        channel.sendmsg([REPLY.pack(error.errno or 0, 0, 0)])
    finally:
        for fd in (*directory, *opened):
            os.close(fd)


if __name__ == "__main__":
    with socket.socket(fileno=0) as server:
        serve(server)
