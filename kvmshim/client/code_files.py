"""The executable files that processes map, looked into once each."""

import logging
import mmap
import os
from dataclasses import dataclass
from typing import Final

from kvmshim.client.cpuid_sites import cpuid_sites
from kvmshim.client.elf import Elf
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
                self._known[key] = _look_into(fd)
            return self._known[key]
        finally:
            os.close(fd)


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


def _look_into(fd: int) -> CodeFile:
    try:
        with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as image:
            notice = Elf(image).symbol(LOADER_NOTICE)
            return CodeFile(
                sites=tuple(cpuid_sites(image)),
                loader_notice=None if notice is None else Elf(image).offset_of(notice),
            )
    except (ValueError, OSError) as error:  # ElfError; an empty file; one that cannot be mapped
        log.debug("no code to look into: %s", error)
        return CodeFile()
