"""Mappings that a client must not make, noticed before it makes them; seccomp_unotify(2).

The kernel asks nobody who serves a FUSE file whether it may be mapped. So a client gets a filter
that lets everything pass but those calls of mmap(2) which could be meant: of a file, private or
executable, with pages from FIRST on. Such a call waits until it was judged here; most go on as if
nothing had been asked, a few are refused. Once installed, a filter stays, in children too; without
us its questions are answered with ENOSYS.

Laws: there is one filter with a listener (EBUSY). Without CAP_SYS_ADMIN in its user namespace a
client can have it only if it can gain no privileges by exec; it is made so where it could gain none
anyway, having no user but its own. Everywhere else it goes without (EACCES).
"""

import errno
import fcntl
import logging
import os
import select
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kvmshim.client import inject
from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.client.inject import Injection
from kvmshim.client.memory import write_exactly
from kvmshim.client.process import Process

log = logging.getLogger(__name__)

Judge = Callable[[int, int, int, int], bool]
"""Whether thread `tid` must not map [offset, offset + size) of its file `fd` so."""

_PR_SET_NO_NEW_PRIVS: Final = 38
# `linux/seccomp.h`
_SET_MODE_FILTER: Final = 1
_FILTER_FLAGS: Final = 1 << 0 | 1 << 3 | 1 << 4  # TSYNC, NEW_LISTENER, TSYNC_ESRCH
_RET_ALLOW: Final = 0x7FFF_0000
_RET_USER_NOTIF: Final = 0x7FC0_0000
_NOTIF_CONTINUE: Final = 1
_NOTIF: Final = struct.Struct("<QIIiIQ6Q")
_RESPONSE: Final = struct.Struct("<QqiI")
_NOTIF_RECV: Final = 0xC050_2100
_NOTIF_SEND: Final = 0xC018_2101

# Fields of `struct seccomp_data`, of which BPF loads 32 bits at a time.
_NUMBER: Final = 0
_ARCH: Final = 4
_SIZE, _PROTECTION, _FLAGS, _OFFSET = (16 + 8 * number for number in (1, 2, 3, 5))
_AUDIT_ARCH_X86_64: Final = 0xC000_003E
_MAP_TYPE: Final = 0xF
_MAP_PRIVATE: Final = 2
_MAP_ANONYMOUS: Final = 0x20
_PROT_EXEC: Final = 4

# `linux/bpf_common.h`: loads a word of the data, jumps on A against K, and so on.
_LOAD: Final = 0x20
_AND: Final = 0x54
_ADD_X: Final = 0x0C
_TAX: Final = 0x07
_EQUAL: Final = 0x15
_ABOVE: Final = 0x25
_SET: Final = 0x45
_RETURN: Final = 0x06
_INSTRUCTION: Final = struct.Struct("<HBBI")
_PROGRAM: Final = struct.Struct("<H6xQ")


def program(first: int, last: int) -> bytes:
    """The filter, `struct sock_filter` by `struct sock_filter`. It asks about mappings that have a
    byte in [first, last) of their file, both below 2^31."""
    steps = [
        ("", _LOAD, "", "", _ARCH),
        ("", _EQUAL, "", "allow", _AUDIT_ARCH_X86_64),
        ("", _LOAD, "", "", _NUMBER),
        ("", _EQUAL, "", "allow", inject.SYS_MMAP),
        ("", _LOAD, "", "", _FLAGS),
        ("", _SET, "allow", "", _MAP_ANONYMOUS),
        ("", _LOAD, "", "", _OFFSET + 4),
        ("", _EQUAL, "", "allow", 0),
        ("", _LOAD, "", "", _OFFSET),
        ("", _ABOVE, "allow", "", last - 1),
        ("", _LOAD, "", "", _SIZE + 4),
        ("", _EQUAL, "", "kind", 0),
        ("", _LOAD, "", "", _SIZE),
        ("", _ABOVE, "kind", "", last),
        ("", _TAX, "", "", 0),
        ("", _LOAD, "", "", _OFFSET),
        ("", _ADD_X, "", "", 0),
        ("", _ABOVE, "", "allow", first),
        ("kind", _LOAD, "", "", _PROTECTION),
        ("", _SET, "ask", "", _PROT_EXEC),
        ("", _LOAD, "", "", _FLAGS),
        ("", _AND, "", "", _MAP_TYPE),
        ("", _EQUAL, "ask", "allow", _MAP_PRIVATE),
        ("allow", _RETURN, "", "", _RET_ALLOW),
        ("ask", _RETURN, "", "", _RET_USER_NOTIF),
    ]
    places = {label: at for at, (label, *_) in enumerate(steps) if label}
    code = b""
    for at, (_, operation, true, false, value) in enumerate(steps):
        # A jump counts from the next instruction; without one both go there.
        jumps = [places[label] - at - 1 if label else 0 for label in (true, false)]
        code += _INSTRUCTION.pack(operation, *jumps, value)
    return code


def install(process: Process, injection: Injection, code: bytes) -> int:
    """Gives the filter to every thread of the client; our descriptor of its listener.

    OSError: the client may not, has one already, or one of its threads has filters of its own.
    """
    with injection.scratch() as scratch:
        head = _PROGRAM.pack(len(code) // _INSTRUCTION.size, scratch + _PROGRAM.size)
        write_exactly(process.tgid, scratch, head + code)
        if _knows_no_other_user(process):
            injection.call(inject.SYS_PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        theirs = injection.call(inject.SYS_SECCOMP, _SET_MODE_FILTER, _FILTER_FLAGS, scratch)
        process.own_filters += 1
        try:
            return ptrace.pidfd_getfd(process.pidfd, theirs)
        finally:
            injection.call(inject.SYS_CLOSE, theirs)


def _knows_no_other_user(process: Process) -> bool:
    """In its user namespace, where files of others cannot make it somebody else."""
    lines = process.read("uid_map").split(b"\n")
    return sum(int(line.split()[2]) for line in lines if line) == 1


def judge_all(listener: int, judge: Judge) -> None:
    """Starts a thread that answers until nobody has the filter any more; it owns `listener`."""
    serve = threading.Thread(target=_serve, args=(listener, judge), name="mappings", daemon=True)
    serve.start()


def _serve(listener: int, judge: Judge) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    try:
        while all(not events & select.POLLHUP for _, events in poll.poll()):
            # ENOENT: the caller was killed, or a signal took it out. Others wait, whatever it is.
            with suppress(OSError):
                _answer(listener, judge)
    finally:
        os.close(listener)


def _answer(listener: int, judge: Judge) -> None:
    buffer = bytearray(_NOTIF.size)
    fcntl.ioctl(listener, _NOTIF_RECV, buffer)
    number, tid, _, _, _, _, _, size, _, _, fd, offset = _NOTIF.unpack(buffer)
    refused = False
    try:
        refused = judge(tid, fd & 0xFFFF_FFFF, offset, size)
    except Exception:
        log.exception("a mapping of thread %d could not be judged", tid)
    answer = (-errno.EINVAL, 0) if refused else (0, _NOTIF_CONTINUE)
    fcntl.ioctl(listener, _NOTIF_SEND, _RESPONSE.pack(number, 0, *answer))
