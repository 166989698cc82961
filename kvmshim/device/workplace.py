"""What the files behind every door work with: the service, the clients, the opener."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kvmshim.client.client import Client
from kvmshim.client.run_page import Piece
from kvmshim.device.fuse_ffi import NativeSlot
from kvmshim.device.gate import Gate
from kvmshim.device.kept_files import KeptFiles
from kvmshim.device.opener import Opener
from kvmshim.dispatch.request import Kept, Reply, Request
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm


@dataclass(frozen=True, slots=True)
class RunDoor:
    """What a vCPU's file has beside its ioctls: the run pages, and who answers KVM_RUN."""

    memfd: int
    """The run pages. It stays its giver's, who closes it when the vCPU is released."""
    size: int
    """Bytes: KVM_GET_VCPU_MMAP_SIZE, or up to the end of the dirty ring."""
    slot: NativeSlot | None
    """The C function for the vCPU's ioctls; None leaves all of them to Python."""
    others: Sequence[Piece] = ()
    """What is in the file instead of pages of `memfd`, by offset."""

    @property
    def pieces(self) -> Sequence[Piece]:
        """All of the file."""
        found, at = [], 0
        for other in self.others:
            found += [Piece(at, other.offset - at, self.memfd, at), other]
            at = other.offset + other.size
        return [*found, Piece(at, self.size - at, self.memfd, at)]


class Service(Protocol):
    """What stands behind the doors."""

    def ioctl(self, request: Request) -> Reply:
        """Answer a request. Raises nothing."""

    def read(self, target: Kept, span: slice) -> bytes:
        """The bytes of a file, less at its end. KvmError: EINVAL for what cannot be read."""

    def allocate(self, target: Kept, mode: int, offset: int, size: int) -> None:
        """fallocate(2) of a file, with its `mode`. KvmError: EOPNOTSUPP where there is none."""

    def release(self, target: Kept) -> None:
        """The last file of `target` is closed and its session has ended, or it was never made."""

    def gate(self, process: int) -> Gate:
        """The gate of a client process, the same one as long as a thread of it is inside."""

    def run_door(self, vcpu: Vcpu, python_ioctl: int) -> RunDoor:
        """Called once, before a vCPU's file exists.

        `python_ioctl` is the address of the C function (of type `fuse_lowlevel_ops.ioctl`) that
        takes what the native slot does not keep. It is good until `release`.
        """

    def vm_slot(self, vm: Vm, python_ioctl: int) -> NativeSlot | None:
        """As `run_door`, for a VM's file. None leaves all its ioctls to Python."""


Beside = Callable[[Service], Awaitable[None]]
"""What a daemon does beside serving: called in its trio loop, cancelled at its end. It may return
earlier, and raises nothing."""


async def nothing_beside(_: Service) -> None:
    """Nothing but serving."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every open file works with."""

    service: Service
    opener: Opener
    judges_mappings: bool = False
    """Whether clients are made to ask before they map what they must not. Only where they end with
    us: who has to ask, and finds nobody, can map no library either."""
    kept_files: KeptFiles = field(default_factory=KeptFiles)
    find_client: Callable[[int], Client] = Client.of_thread
    """The client that a thread belongs to; KvmError(ESRCH), KvmError(EDEADLK) for our own."""
