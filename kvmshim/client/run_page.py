"""The kvm_run page of a vCPU: a client's mapping of a FUSE file becomes one of a memfd.

FUSE pages are not shared with the server. So when a client first touches its mapping and the
kernel asks for the page (FUSE_READ), every mapping of that file in the client is exchanged before
the faulting instruction runs again. No thread runs user code meanwhile; what a system call stores
in the old page (the fault was in its copy to user space) is carried over.

The server must answer the read with the memfd's contents, ignore the FUSE_WRITE of a page that a
system call stored in, and drop the page it answered with from the kernel's cache
(FUSE_NOTIFY_INVAL_INODE) before the client goes on, or its next mapping of the file would be
served from there.
"""

import errno
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kvmshim.client import fds, inject
from kvmshim.client.inject import Injection
from kvmshim.client.maps import PAGE, Mapping, parse_maps, present_runs
from kvmshim.client.memory import read_available
from kvmshim.client.process import Process
from kvmshim.client.threads import InFlight, Tracee, Tracees
from kvmshim.errors import KvmError

_MAP_FIXED: Final = 0x10


@dataclass(frozen=True, slots=True)
class RunFile:
    """A FUSE file as maps shows it, and the file to be mapped in its place."""

    device: int
    inode: int
    replacement: int  # fd, here

    def is_behind(self, mapping: Mapping) -> bool:
        return (mapping.device, mapping.inode) == (self.device, self.inode)


def replace_mappings(
    tracees: Tracees,
    tid: int,
    file: RunFile,
    answer: Callable[[], None],
    exchanged: Callable[[], None],
    in_flight: InFlight,
) -> int:
    """A job for the tracer; the number of mappings exchanged.

    `tid` waits in the fault that `answer` completes; called once unless the first step fails
    (EPERM, ESRCH). `exchanged` is called while the client still stands, to drop the page from the
    kernel's cache. Threads in `in_flight` wait in other requests and get no answer meanwhile.
    EBUSY: a thread does not stop.
    """
    taken = [tracees.attach(tid)]
    before = os.pread(file.replacement, os.fstat(file.replacement).st_size, 0)
    try:
        # The others before the answer: one may wait for the same page, and would use it.
        tracees.interrupt_all(in_flight, taken)
        answer()
        tracees.wait_all(taken, lambda: set(in_flight()) - {tid})
        taken += tracees.stop_all(in_flight)
        mappings = [m for m in _mappings(tracees.process) if file.is_behind(m)]
        for mapping in mappings:
            _carry_over(tracees.process, mapping, before, file.replacement)
        _exchange(tracees.process, taken[0], mappings, file.replacement)
        exchanged()
        return len(mappings)
    finally:
        tracees.release_all(taken)


def _mappings(process: Process) -> list[Mapping]:
    return parse_maps(process.read("maps").decode(errors="replace"))


def _carry_over(process: Process, mapping: Mapping, before: bytes, fd: int) -> None:
    """Stores in the new file what differs in the old pages from `before`, their first contents."""
    for first, count in present_runs(process.read_pagemap(mapping.start, mapping.size)):
        for page in range(first, first + count):
            address = mapping.start + page * PAGE
            offset = mapping.offset + page * PAGE
            old = before[offset : offset + PAGE]
            new = read_available(process.tgid, address, len(old))
            for at, (was, now) in enumerate(zip(old, new, strict=False)):
                if was != now:
                    os.pwrite(fd, bytes([now]), offset + at)


def _exchange(process: Process, tracee: Tracee, mappings: list[Mapping], fd: int) -> None:
    with Injection(process, tracee) as injection:
        number = fds.give(process, injection, fd, cloexec=True)
        try:
            for mapping in mappings:
                kind = mmap.MAP_SHARED if mapping.shared else mmap.MAP_PRIVATE
                injection.call(
                    inject.SYS_MMAP,
                    mapping.start,
                    mapping.size,
                    mapping.protection,
                    kind | _MAP_FIXED,
                    number,
                    mapping.offset,
                )
        except OSError as error:
            raise KvmError(error.errno or errno.ENOMEM, "kvm_run cannot be mapped") from error
        finally:
            injection.call(inject.SYS_CLOSE, number)
