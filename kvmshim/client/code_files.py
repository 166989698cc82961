"""The executable files that processes map, looked into once each."""

import logging
import mmap
import os
from dataclasses import dataclass
from typing import Final

from kvmshim.client.cpuid_search import CpuidSearch
from kvmshim.client.elf import Elf, ElfError
from kvmshim.client.maps import Mapping

log = logging.getLogger(__name__)

LOADER_NOTICE: Final = "_dl_debug_state"
"""The function that dynamic linkers (glibc, musl) call for debuggers when a library has come or
is about to go."""


@dataclass(frozen=True, slots=True)
class CodeFile:
    """What is in one file. Offsets are in the file."""

    sites: tuple[int, ...] = ()
    loader_notice: int | None = None


class CodeFiles:
    """Files by identity and time of change; each thread its own."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int, int], CodeFile] = {}
        self._search = CpuidSearch()

    def behind(self, tgid: int, mapping: Mapping) -> CodeFile:
        """The file of a mapping; an empty one if it is gone, unreadable or no ELF file."""
        try:
            fd = _open(tgid, mapping)
        except OSError as error:
            log.debug("%s cannot be read: %s", mapping.name, error)
            return CodeFile()
        try:
            status = os.fstat(fd)
            key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if key not in self._known:
                self._known[key] = self._look_into(fd)
            return self._known[key]
        finally:
            os.close(fd)

    def close(self) -> None:
        """Ends what looks into files; in the thread that used it."""
        self._search.close()

    def _look_into(self, fd: int) -> CodeFile:
        try:
            sites = self._search.sites(fd)
            with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as image:
                notice = Elf(image).symbol(LOADER_NOTICE)
                offset = None if notice is None else Elf(image).offset_of(notice)
            return CodeFile(sites, offset)
        except ElfError as error:
            log.debug("no code to look into: %s", error)
        except OSError as error:
            log.warning("CPUID shows a program the host's processor: %s", error)
        return CodeFile()


def _open(tgid: int, mapping: Mapping) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        # Needs CAP_CHECKPOINT_RESTORE, and leads to files that have no name any more.
        return os.open(f"/proc/{tgid}/map_files/{mapping.start:x}-{mapping.end:x}", flags)
    except OSError:
        fd = os.open(f"/proc/{tgid}/root{mapping.name}", flags)
    if os.fstat(fd).st_ino != mapping.inode:
        os.close(fd)
        raise FileNotFoundError(mapping.name)
    return fd
