"""Client memory mapped into this process, the stretches of one range side by side."""

import weakref

from kvmshim.client import mmap_ffi
from kvmshim.client.ram_file import LARGE_PAGE
from kvmshim.client.shared import SharedRange


class MappedRanges:
    """Implements `platform.caller.SharedMemory`."""

    def __init__(self, ranges: list[SharedRange]) -> None:
        """`ranges` without holes, as `Client.shared` returns them. A range that the client cannot
        write cannot be written here either. OSError: no room, or a sealed file."""
        self._ranges = ranges
        self.size = sum(part.size for part in ranges)
        # A large page of a file is one of ours where the two begin at the same distance from one.
        alignment = LARGE_PAGE if self.size >= LARGE_PAGE else 1
        self.address = mmap_ffi.reserve(self.size, alignment, ranges[0].offset)
        self._unmap = weakref.finalize(self, mmap_ffi.unmap, self.address, self.size)
        start = self.address
        for part in ranges:
            mmap_ffi.map_file_at(start, part.size, part.fd, part.offset, writable=part.writable)
            start += part.size

    def close(self) -> None:
        """Unmaps it; may be called again."""
        self._unmap()
        self._ranges = []
