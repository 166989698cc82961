"""The contents of a stopped client's memory, copied into a file.

Only pages that have contents are read and only pages that are not zero are written, so that a
large untouched range costs the reading of its pagemap (8 bytes a page) and the file stays sparse.
Pages that cannot be read (beyond the end of a mapped file, guard pages) become holes. What a
private mapping shows of its file is copied from the file, in the kernel.
"""

import errno
import os
from typing import Final

from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.client.maps import PAGE, Mapping, own_runs, present_runs
from kvmshim.client.process import Process
from kvmshim.client.shared import Backing
from kvmshim.client.sparse import extents

_BUFFER: Final = 256 * PAGE
_UNREADABLE: Final = frozenset({errno.EFAULT, errno.EIO})
_NO_COPY: Final = frozenset({errno.EINVAL, errno.ESPIPE, errno.EOPNOTSUPP})
_ANONYMOUS_HUGETLB: Final = "/anon_hugepage (deleted)"


class PageCopy:
    """Copies one mapping to `offset` of the file `fd`."""

    def __init__(
        self, process: Process, part: Mapping, fd: int, offset: int, file: Backing | None
    ) -> None:
        """`file` is that of a private mapping."""
        self._process = process
        self._file = file
        self._part = part
        self._fd = fd
        self._shift = offset - part.start
        self._buffer = bytearray(_BUFFER)

    def run(self) -> None:
        """OSError: no room in the file, or the client is gone."""
        copied = self._file is not None and self._copy_file(self._file)
        for first, count in self._own_stretches() if copied else self._stretches():
            start = self._part.start + first * PAGE
            end = start + count * PAGE
            while start < end:
                size = min(_BUFFER, end - start)
                self._read(start, size)
                if copied:
                    self._write_all(memoryview(self._buffer)[:size], start)
                else:
                    self._write(start, size)
                start += size

    def _copy_file(self, file: Backing) -> bool:
        """False: nothing is copied, for the file is of a kind that the kernel cannot copy."""
        begin = self._part.offset
        shift = self._part.start + self._shift - begin
        try:
            for start, size in list(extents(file.fd, begin, begin + self._part.size)):
                end = start + size
                os.lseek(self._fd, start + shift, os.SEEK_SET)
                while start < end and (count := os.sendfile(self._fd, file.fd, start, end - start)):
                    start += count
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
            return False
        return True

    def _own_stretches(self) -> list[tuple[int, int]]:
        """(first page, number of pages) of what the client has written."""
        return list(own_runs(self._process.read_pagemap(self._part.start, self._part.size)))

    def _stretches(self) -> list[tuple[int, int]]:
        """(first page, number of pages) of what may have contents."""
        part = self._part
        if part.inode and part.name != _ANONYMOUS_HUGETLB:
            return [(0, part.size // PAGE)]  # a page not in memory is in the file
        return list(present_runs(self._process.read_pagemap(part.start, part.size)))

    def _read(self, address: int, size: int) -> None:
        """Fills the buffer; where a page cannot be read, with zeros."""
        done = 0
        while done < size:
            try:
                done += self._read_some(address, done, size)
            except OSError as error:
                if error.errno not in _UNREADABLE:
                    raise
                self._buffer[done : done + PAGE] = bytes(PAGE)
                done += PAGE

    def _read_some(self, address: int, start: int, end: int) -> int:
        tgid = self._process.tgid
        if self._part.readable:
            return ptrace.read_memory_into(tgid, address + start, self._buffer, start, end)
        # PROT_NONE may still have contents; /proc/PID/mem reads them for a tracer.
        with open(f"/proc/{tgid}/mem", "rb", buffering=0) as memory:
            data = os.pread(memory.fileno(), end - start, address + start)
        self._buffer[start : start + len(data)] = data
        return len(data)

    def _write(self, address: int, size: int) -> None:
        zero = ptrace.zero_pages(self._buffer, size)
        with memoryview(self._buffer) as view:
            first = zero.find(0)
            while first >= 0:
                end = zero.find(1, first)
                end = size // PAGE if end < 0 else end
                self._write_all(view[first * PAGE : end * PAGE], address + first * PAGE)
                first = zero.find(0, end)

    def _write_all(self, view: memoryview, address: int) -> None:
        done = 0
        while done < len(view):
            done += os.pwrite(self._fd, view[done:], address + self._shift + done)
