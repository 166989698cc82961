"""Client memory that has a file behind it, and so can be mapped here too; proc(5) map_files.

Two kinds of file: those that the client mapped itself (memfd, shm, hugetlbfs, shared anonymous
memory) and those that `adopt` put under its private memory. The latter are kept here while the
client maps them, for a server without CAP_SYS_ADMIN has no other way to reach them again;
`give_back` takes those away that are copies of files and that nobody uses.
"""

import errno
import fcntl
import mmap
import os
import stat
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.client.maps import Mapping, covers, mapped_files, parse_maps
from kvmshim.client.process import Process
from kvmshim.client.ram_file import RamFiles
from kvmshim.client.served import SERVED
from kvmshim.errors import KvmError


class Backing:
    """A file behind client memory; owns its fd, unless somebody else does."""

    def __init__(self, fd: int, owner: "Backing | None" = None) -> None:
        self.fd = fd
        self._owner = owner
        if owner is None:
            weakref.finalize(self, os.close, fd)


@dataclass(frozen=True, slots=True)
class Origin:
    """The file of a private mapping of which there is a copy in a file of ours."""

    file: Backing
    file_offset: int
    offset: int  # of the copy
    size: int


class AdoptedFile:
    """A file of ours under memory of the client's."""

    def __init__(self, fd: int, origins: Sequence[Origin]) -> None:
        self.kept = Backing(fd)
        self.origins = origins
        self._lent: weakref.ref[Backing] | None = None

    def lend(self) -> Backing:
        """The file for who uses the memory: one object as long as somebody does."""
        lent = self._lent() if self._lent else None
        if lent is None:
            lent = Backing(self.kept.fd, self.kept)
            self._lent = weakref.ref(lent)
        return lent

    @property
    def in_use(self) -> bool:
        """Somebody holds what `lend` returned."""
        return self._lent is not None and self._lent() is not None

    @property
    def key(self) -> tuple[int, int]:
        """(st_dev, st_ino)."""
        status = os.fstat(self.kept.fd)
        return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class SharedRange:
    """A stretch of a client's memory and where it lies in a file."""

    backing: Backing
    offset: int
    address: int  # in the client
    size: int
    writable: bool  # by the client, when it was looked at

    @property
    def fd(self) -> int:
        """Of the file; open as long as this object lives."""
        return self.backing.fd


@dataclass
class SharedFiles:
    """The files behind one client's memory."""

    process: Process
    ram_files: RamFiles
    exchanging: threading.Lock = field(default_factory=threading.Lock)
    """Held while memory is exchanged; whoever writes to the client or looks at it meanwhile takes
    it."""

    _adopted: dict[tuple[int, int], AdoptedFile] = field(default_factory=dict)

    def adopted(self, file: AdoptedFile) -> None:
        """A file of ours that the client maps from now on; under `exchanging`."""
        self._adopted[file.key] = file

    def unused_copies(self) -> list[AdoptedFile]:
        """Files of ours that are copies of others and that nobody uses; under `exchanging`."""
        return [file for file in self._adopted.values() if file.origins and not file.in_use]

    def trim(self) -> None:
        """Drops the files of ours that the client unmapped; under `exchanging`. Their memory lives
        as long as ranges of them do."""
        mapped = mapped_files(self._maps())
        self._adopted = {key: file for key, file in self._adopted.items() if key in mapped}

    def forget(self) -> None:
        """Drops all files of ours; under `exchanging`. As `trim` for who has no memory left."""
        self._adopted.clear()

    def ranges(self, address: int, size: int) -> list[SharedRange] | None:
        """The files behind [address, address+size), by address; None: part of it has none. Under
        `exchanging`.

        EFAULT: part of it is not mapped. EINVAL: part of it is a file that we serve.
        """
        ranges: list[SharedRange] = []
        for mapping in self.whole_mappings(address, size):
            backing = self.backing_of(mapping)
            if backing is None:
                return None
            part = mapping.clipped(address, address + size)
            ranges.append(SharedRange(backing, part.offset, part.start, part.size, part.writable))
        return ranges

    def whole_mappings(self, address: int, size: int) -> list[Mapping]:
        """The mappings that make up a range, not clipped to it. Errors as `ranges`."""
        end = address + size
        mappings = parse_maps(self._maps(), address, end)
        if not covers(mappings, address, end):
            raise KvmError(errno.EFAULT, f"not all of {address:#x}..{end:#x} is mapped")
        for mapping in mappings:
            # A file of ours may be on a file system that got its number from one that just ended.
            if mapping.device in SERVED and self._adopted_file(mapping) is None:
                raise KvmError(errno.EINVAL, f"{mapping.name} cannot be guest memory")
        return mappings

    def _maps(self) -> str:
        return self.process.read("maps").decode(errors="replace")

    def backing_of(self, mapping: Mapping) -> Backing | None:
        """The file of a whole mapping; None: it is private, or its file cannot be had."""
        if not mapping.shared:
            return None
        adopted = self._adopted_file(mapping)
        return self._file_of(mapping) if adopted is None else adopted.lend()

    def _adopted_file(self, mapping: Mapping) -> AdoptedFile | None:
        return self._adopted.get((mapping.device, mapping.inode))

    def origin_of(self, mapping: Mapping) -> Backing | None:
        """The file of a whole private mapping, to read; None: it has none, or it cannot be had."""
        if mapping.shared or not mapping.inode:
            return None
        return self._file_of(replace(mapping, protection=mmap.PROT_READ))

    def _file_of(self, mapping: Mapping) -> Backing | None:
        fd = self._open_map_file(mapping)
        if fd is None:
            fd = self._take_same_file(mapping)
        return None if fd is None else Backing(fd)

    def _open_map_file(self, mapping: Mapping) -> int | None:
        path = f"/proc/{self.process.tgid}/map_files/{mapping.start:x}-{mapping.end:x}"
        access = os.O_RDWR if mapping.writable else os.O_RDONLY
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                return None
            return os.open(path, access | os.O_CLOEXEC)
        except OSError:  # not privileged, or unmapped just now
            return None

    def _take_same_file(self, mapping: Mapping) -> int | None:
        try:
            numbers = sorted(int(name) for name in os.listdir(f"/proc/{self.process.tgid}/fd"))
        except OSError:
            return None
        for number in numbers:
            fd = self._take_if_same(number, mapping)
            if fd is not None:
                return fd
        return None

    def _take_if_same(self, number: int, mapping: Mapping) -> int | None:
        try:
            link = os.stat(f"/proc/{self.process.tgid}/fd/{number}")
            if (link.st_dev, link.st_ino) != (mapping.device, mapping.inode):
                return None
            fd = ptrace.pidfd_getfd(self.process.pidfd, number)
        except OSError:  # closed just now
            return None
        status = os.fstat(fd)
        same = (status.st_dev, status.st_ino) == (mapping.device, mapping.inode)
        if same and stat.S_ISREG(status.st_mode) and _can_map(fd, writable=mapping.writable):
            return fd
        os.close(fd)
        return None


def _can_map(fd: int, *, writable: bool) -> bool:
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    return access == os.O_RDWR or (access == os.O_RDONLY and not writable)
