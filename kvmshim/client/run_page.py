"""The kvm_run page of a vCPU: a client's mapping of a FUSE file becomes one of memfds.

FUSE pages are not shared with the server. So when a client first touches its mapping and the
kernel asks for the page (FUSE_READ), every mapping of that file in the client is exchanged before
the faulting instruction runs again. No thread runs user code meanwhile; what a system call stores
in the old page (the fault was in its copy to user space) is carried over.

The server must answer the read with the memfds' contents, ignore the FUSE_WRITE of a page that a
system call stored in, and drop the page it answered with from the kernel's cache
(FUSE_NOTIFY_INVAL_INODE) before the client goes on, or its next mapping of the file would be
served from there.
"""

import errno
import mmap
import os
from collections.abc import Callable, Sequence
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
class Piece:
    """A part of the file, and the memfd that is mapped in its place. Offsets are page aligned."""

    offset: int
    size: int
    fd: int  # here
    fd_offset: int

    def clipped(self, start: int, end: int) -> "Piece | None":
        """The part of it that lies in [start, end) of the file, if any."""
        low, high = max(start, self.offset), min(end, self.offset + self.size)
        if low >= high:
            return None
        return Piece(low, high - low, self.fd, self.fd_offset + low - self.offset)


def read_pieces(pieces: Sequence[Piece], start: int, end: int) -> bytes:
    """[start, end) of the file as its pieces have it; zeros where there is none."""
    data = bytearray(end - start)
    for piece in pieces:
        if part := piece.clipped(start, end):
            at = part.offset - start
            data[at : at + part.size] = os.pread(part.fd, part.size, part.fd_offset)
    return bytes(data)


@dataclass(frozen=True, slots=True)
class RunFile:
    """A FUSE file as maps shows it, and what is to be mapped in its place."""

    device: int
    inode: int
    pieces: Sequence[Piece]

    @property
    def size(self) -> int:
        """Bytes."""
        return max(piece.offset + piece.size for piece in self.pieces)

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
    before = read_pieces(file.pieces, 0, file.size)
    try:
        # The others before the answer: one may wait for the same page, and would use it.
        tracees.interrupt_all(in_flight, taken)
        answer()
        tracees.wait_all(taken, lambda: set(in_flight()) - {tid})
        taken += tracees.stop_all(in_flight)
        mappings = [m for m in _mappings(tracees.process) if file.is_behind(m)]
        for mapping in mappings:
            _carry_over(tracees.process, mapping, before, file.pieces)
        _exchange(tracees.process, taken[0], mappings, file.pieces)
        exchanged()
        return len(mappings)
    finally:
        tracees.release_all(taken)


def _mappings(process: Process) -> list[Mapping]:
    return parse_maps(process.read("maps").decode(errors="replace"))


def _carry_over(process: Process, mapping: Mapping, before: bytes, pieces: Sequence[Piece]) -> None:
    """Stores in the new files what differs in the old pages from `before`, their first contents."""
    for first, count in present_runs(process.read_pagemap(mapping.start, mapping.size)):
        for page in range(first, first + count):
            address = mapping.start + page * PAGE
            offset = mapping.offset + page * PAGE
            old = before[offset : offset + PAGE]
            new = read_available(process.tgid, address, len(old))
            for at, (was, now) in enumerate(zip(old, new, strict=False)):
                if was != now:
                    _store(pieces, offset + at, now)


def _store(pieces: Sequence[Piece], offset: int, byte: int) -> None:
    for piece in pieces:
        if part := piece.clipped(offset, offset + 1):
            os.pwrite(part.fd, bytes([byte]), part.fd_offset)


def _exchange(
    process: Process, tracee: Tracee, mappings: list[Mapping], pieces: Sequence[Piece]
) -> None:
    with Injection(process, tracee) as injection:
        for fd in {piece.fd for piece in pieces}:
            number = fds.give(process, injection, fd, cloexec=True)
            try:
                for mapping in mappings:
                    for piece in pieces:
                        if piece.fd == fd:
                            _map(injection, mapping, piece, number)
            except OSError as error:
                raise KvmError(error.errno or errno.ENOMEM, "kvm_run cannot be mapped") from error
            finally:
                injection.call(inject.SYS_CLOSE, number)


def _map(injection: Injection, mapping: Mapping, piece: Piece, number: int) -> None:
    """Maps the client's fd `number` over what a mapping shows of a piece."""
    part = piece.clipped(mapping.offset, mapping.offset + mapping.size)
    if part is None:
        return
    kind = mmap.MAP_SHARED if mapping.shared else mmap.MAP_PRIVATE
    injection.call(
        inject.SYS_MMAP,
        mapping.start + part.offset - mapping.offset,
        part.size,
        mapping.protection,
        kind | _MAP_FIXED,
        number,
        part.fd_offset,
    )
