"""An fd into a client and an fd out of it; unix(7) SCM_RIGHTS, pidfd_getfd(2).

Nothing has to be visible in the client's mount, network or PID namespace. For the time of a gift
the client has up to two more fds (close-on-exec).
"""

import errno
import os
import socket
import struct
from typing import Final

from kvmshim.client import inject
from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.client.inject import Injection
from kvmshim.client.memory import read_exactly, write_exactly
from kvmshim.client.process import Process
from kvmshim.errors import KvmError

_FD_PAIR: Final = struct.Struct("<ii")
_MSGHDR: Final = struct.Struct("<QI4xQQQQi4x")
_IOVEC: Final = struct.Struct("<QQ")
_CMSG_FD: Final = struct.Struct("<Qiii4x")  # cmsg_len, cmsg_level, cmsg_type, one fd, padding
_CMSG_LEN: Final = 20


def take(process: Process, fd: int) -> int:
    """A close-on-exec duplicate of the client's fd. EBADF: it has none such; EPERM: not ours."""
    try:
        return ptrace.pidfd_getfd(process.pidfd, fd)
    except OSError as error:
        raise KvmError(error.errno or errno.EBADF, f"fd {fd} of client {process.tgid}") from error


def give(process: Process, injection: Injection, fd: int, *, cloexec: bool) -> int:
    """The number that our `fd` gets in the client: the lowest free one, as of any new fd.

    EMFILE: the client's limit, which must leave room for two. ESRCH: it was killed.
    """
    try:
        with injection.scratch() as scratch:
            return _give(process, injection, fd, scratch, cloexec=cloexec)
    except OSError as error:
        raise KvmError(error.errno or errno.EIO, f"no fd into client {process.tgid}") from error


def _give(process: Process, injection: Injection, fd: int, scratch: int, *, cloexec: bool) -> int:
    kind = socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
    injection.call(inject.SYS_SOCKETPAIR, socket.AF_UNIX, kind, 0, scratch)
    ours, theirs = _FD_PAIR.unpack(read_exactly(process.tgid, scratch, _FD_PAIR.size))
    try:
        try:
            end = socket.socket(fileno=ptrace.pidfd_getfd(process.pidfd, ours))
        finally:
            injection.call(inject.SYS_CLOSE, ours)  # the lower number: the new fd's
        with end:
            socket.send_fds(end, [b"\0"], [fd])
            return _receive(process, injection, theirs, scratch, cloexec=cloexec)
    finally:
        injection.call(inject.SYS_CLOSE, theirs)


def _receive(
    process: Process, injection: Injection, endpoint: int, scratch: int, *, cloexec: bool
) -> int:
    vector = scratch + _MSGHDR.size
    control = vector + _IOVEC.size
    data = control + _CMSG_FD.size
    message = _MSGHDR.pack(0, 0, vector, 1, control, _CMSG_FD.size, 0) + _IOVEC.pack(data, 1)
    write_exactly(process.tgid, scratch, message)
    flags = socket.MSG_CMSG_CLOEXEC if cloexec else 0
    injection.call(inject.SYS_RECVMSG, endpoint, scratch, flags)
    header = _MSGHDR.unpack(read_exactly(process.tgid, scratch, _MSGHDR.size))
    if header[5] < _CMSG_LEN:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    length, level, kind, fd = _CMSG_FD.unpack(read_exactly(process.tgid, control, _CMSG_FD.size))
    assert (length, level, kind) == (_CMSG_LEN, socket.SOL_SOCKET, socket.SCM_RIGHTS)
    return int(fd)
