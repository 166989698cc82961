"""A client process as /proc and a pidfd show it; proc(5), pidfd_open(2).

The pidfd names one life of the process: after its death every use of it says ESRCH, also when the
number belongs to somebody else by then. All ids are those of this process's PID namespace.
"""

import errno
import os
import select
import weakref
from dataclasses import dataclass
from typing import Final, Self

from kvmshim.errors import KvmError

_PAGE: Final = 4096
_PAGEMAP_ENTRY: Final = 8
_DEAD_STATES: Final = frozenset("ZXx")


@dataclass(frozen=True, slots=True)
class ThreadStatus:
    """Some lines of /proc/TID/status."""

    tgid: int
    parent: int
    tracer: int
    state: str
    filters: int
    """Of seccomp(2); strict mode counts as one."""
    pending: int
    """Signals sent to the thread and not taken yet, bit n-1 for signal n."""

    @property
    def dead(self) -> bool:
        """Never runs user code again, though its number is still taken."""
        return self.state in _DEAD_STATES

    @classmethod
    def of(cls, tid: int) -> Self:
        """ESRCH: no such thread."""
        try:
            with open(f"/proc/{tid}/status", errors="replace") as status:
                text = status.read()
        except (FileNotFoundError, ProcessLookupError):
            raise KvmError(errno.ESRCH, f"thread {tid} is gone") from None
        fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        return cls(
            tgid=int(fields["Tgid"]),
            parent=int(fields["PPid"]),
            tracer=int(fields["TracerPid"]),
            state=fields["State"][:1],
            # Kernels before 5.9 do not tell how many.
            filters=int(fields.get("Seccomp_filters", "0"))
            or int(fields.get("Seccomp", "0").strip() != "0"),
            pending=int(fields["SigPnd"], 16),
        )


class Process:
    """One thread group."""

    def __init__(self, tgid: int) -> None:
        """ESRCH: there is no such process."""
        self.tgid = tgid
        self.own_filters = 0
        """Seccomp filters that it has from us, which let through whatever it does for us."""
        try:
            self.pidfd = os.pidfd_open(tgid)
        except OSError as error:
            raise KvmError(error.errno or errno.ESRCH, f"no client {tgid}") from error
        weakref.finalize(self, os.close, self.pidfd)

    @property
    def alive(self) -> bool:
        """At least one thread has not ended."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def has_thread(self, tid: int) -> bool:
        """Whether thread `tid` is there, in a process of this number."""
        return os.access(f"/proc/{self.tgid}/task/{tid}", os.F_OK)

    def threads(self) -> set[int]:
        """Ids of its threads; empty when it is gone."""
        try:
            return {int(name) for name in os.listdir(f"/proc/{self.tgid}/task")}
        except (FileNotFoundError, ProcessLookupError):
            return set()

    def read(self, name: str) -> bytes:
        """A whole file of /proc/TGID. ESRCH: the process is gone."""
        try:
            with open(f"/proc/{self.tgid}/{name}", "rb") as file:
                return file.read()
        except (FileNotFoundError, ProcessLookupError):
            raise KvmError(errno.ESRCH, f"client {self.tgid} is gone") from None

    def read_pagemap(self, address: int, size: int) -> bytes:
        """The entries of /proc/TGID/pagemap for whole pages, 8 bytes each. ESRCH as `read`."""
        try:
            with open(f"/proc/{self.tgid}/pagemap", "rb", buffering=0) as pagemap:
                entry = _PAGEMAP_ENTRY
                return os.pread(pagemap.fileno(), size // _PAGE * entry, address // _PAGE * entry)
        except (FileNotFoundError, ProcessLookupError):
            raise KvmError(errno.ESRCH, f"client {self.tgid} is gone") from None
