"""Memory of ours that guests have and no client can map; a memfd, memfd_create(2)."""

import errno
import os
from typing import Final

from kvmshim.client import mmap_ffi
from kvmshim.client.mapped import MappedRanges
from kvmshim.client.shared import Backing, SharedRange
from kvmshim.errors import KvmError

MEMFD_NAME: Final = "kvmshim-private"


class OwnMemory:
    """Implements `platform.caller.MemoryFile`."""

    def __init__(self, size: int) -> None:
        """OSError: no descriptor is left, or no file can be so long."""
        self._backing: Backing | None = Backing(os.memfd_create(MEMFD_NAME, os.MFD_CLOEXEC))
        os.ftruncate(self._backing.fd, size)
        self.size = size

    def map(self, offset: int, size: int) -> MappedRanges:
        """ENOMEM."""
        part = SharedRange(self._open(), offset, address=0, size=size, writable=True)
        try:
            return MappedRanges([part])
        except OSError as error:
            raise KvmError(error.errno or errno.ENOMEM) from error

    def allocate(self, offset: int, size: int) -> None:
        """ENOSPC, ENOMEM."""
        try:
            os.posix_fallocate(self._open().fd, offset, size)
        except OSError as error:
            raise KvmError(error.errno or errno.ENOSPC) from error

    def discard(self, offset: int, size: int) -> None:
        """Punches a hole, which mappings see at once."""
        mmap_ffi.punch_hole(self._open().fd, offset, size)

    def close(self) -> None:
        """What is mapped stays so."""
        self._backing = None

    def _open(self) -> Backing:
        assert self._backing is not None, "the memory was closed"
        return self._backing
