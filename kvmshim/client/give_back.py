"""Private mappings of files put back where `adopt` had taken their place, when no VM is left that
uses the copies.

For stopped clients only. Pages of such a mapping cost nothing until they are written; of ours each
is a page of memory, for as long as the client maps it. A copy in which anything was written stays.
"""

import mmap
import os
from contextlib import suppress
from typing import Final

from kvmshim.client import fds, inject
from kvmshim.client.adopt import exchange, mapping_states, state_of
from kvmshim.client.inject import Injection
from kvmshim.client.maps import PAGE, Mapping, parse_maps
from kvmshim.client.process import Process
from kvmshim.client.shared import AdoptedFile, Origin
from kvmshim.client.sparse import extents
from kvmshim.errors import KvmError

_CHUNK: Final = 1 << 20


def give_back(process: Process, injection: Injection, copy: AdoptedFile) -> None:
    """Exchanges what the client maps of `copy` and is still as in the files that it was made of."""
    mappings = parse_maps(process.read("maps").decode(errors="replace"))
    for mapping in mappings:
        if (mapping.device, mapping.inode) == copy.key and mapping.shared:
            for origin in copy.origins:
                part = _part_of(origin, mapping)
                if part is not None and _is_as_in_file(copy, origin, part):
                    with suppress(
                        OSError, KvmError
                    ):  # the limit of mappings or descriptors: it stays
                        _put_back(process, injection, origin, part)


def _part_of(origin: Origin, mapping: Mapping) -> Mapping | None:
    """What `mapping`, of the copy, shows of `origin`."""
    start = mapping.start + origin.offset - mapping.offset
    end = start + origin.size
    if end <= mapping.start or mapping.end <= start:
        return None
    return mapping.clipped(start, end)


def _file_offset(origin: Origin, part: Mapping) -> int:
    return origin.file_offset + part.offset - origin.offset


def _is_as_in_file(copy: AdoptedFile, origin: Origin, part: Mapping) -> bool:
    ours, theirs = part.offset, _file_offset(origin, part)
    if os.fstat(origin.file.fd).st_size <= theirs + part.size - PAGE:
        return False  # the last page is behind its end
    # Where both have holes both are zero.
    for fd, shift in ((copy.kept.fd, 0), (origin.file.fd, ours - theirs)):
        for start, size in list(extents(fd, ours - shift, ours - shift + part.size)):
            for at in range(start + shift, start + shift + size, _CHUNK):
                length = min(_CHUNK, start + shift + size - at)
                written = os.pread(copy.kept.fd, length, at)
                read = os.pread(origin.file.fd, length, at - ours + theirs)
                if written != read.ljust(length, b"\0"):
                    return False
    return True


def _put_back(process: Process, injection: Injection, origin: Origin, part: Mapping) -> None:
    state = state_of(part, mapping_states(process, part.start, part.end))
    number = fds.give(process, injection, origin.file.fd, cloexec=True)
    try:
        offset = _file_offset(origin, part)
        exchange(injection, part, state, mmap.MAP_PRIVATE, number, offset)
    finally:
        injection.call(inject.SYS_CLOSE, number)
