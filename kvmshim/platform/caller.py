"""The thread that made an ioctl: its identity, its memory, and what can be shared with it."""

from typing import Protocol

from kvmshim.platform.eventfds import Eventfds
from kvmshim.platform.vm_door import VmDoor


class SharedMemory(Protocol):
    """Memory of a client that this process sees too."""

    @property
    def address(self) -> int:
        """Where it is mapped in this process; page aligned."""

    @property
    def size(self) -> int:
        """Bytes; a multiple of the page size."""

    def close(self) -> None:
        """Unmap it here. The client keeps it. No engine may use the address any more."""


class MemoryFile(Protocol):
    """Memory that belongs to no process; zero until it is written. Offsets are page aligned."""

    @property
    def size(self) -> int:
        """Bytes; a multiple of the page size."""

    def map(self, offset: int, size: int) -> SharedMemory:
        """A part of it, mapped into this process for reading and writing. ENOMEM."""

    def allocate(self, offset: int, size: int) -> None:
        """Takes the memory for a part from the host now. ENOSPC, ENOMEM."""

    def discard(self, offset: int, size: int) -> None:
        """Gives the memory of a part back: it is zero again, also where it is mapped."""

    def close(self) -> None:
        """Nobody makes or maps it any more; what is mapped stays."""


class Caller(Protocol):
    """One thread of a client for the time of one request."""

    @property
    def tid(self) -> int:
        """Thread id in this process's PID namespace."""

    @property
    def process(self) -> int:
        """Thread group id: which client this is."""

    def eventfds(self, vmid: int) -> Eventfds:
        """The client's eventfds, to work with a VM of it."""

    def vm_door(self, vmid: int) -> VmDoor:
        """The door's part of a new VM. ENOMEM."""

    def copy_in(self, address: int, size: int) -> bytes:
        """Read `size` bytes at `address`. EFAULT unless all of them can be read."""

    def copy_out(self, address: int, data: bytes) -> None:
        """Write `data` at `address`. EFAULT unless all of it can be written."""

    def share_memory(self, address: int, size: int) -> SharedMemory:
        """Make a page-aligned range of the client's memory visible to both, contents kept.

        Other threads of the client may write it meanwhile; nothing is lost. EFAULT where
        nothing is mapped, EPERM where the client cannot be traced.
        """

    def make_memory(self, size: int) -> MemoryFile:
        """New memory that only this process can map. ENOMEM."""

    def kept_file(self, fd: int) -> object:
        """What the client's descriptor `fd` stands for; None where the file is none that an ioctl
        made. EBADF."""
