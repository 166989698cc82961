"""A file put under a client's private memory, contents kept, so that both see the same pages.

For stopped clients only: nobody else may write the memory between the copy and the exchange.
Kept: address, protection, contents, the advice and locking that smaps shows, and that pages are
large. Changed, as it must: fork shares the memory instead of copying it, and the pages are charged
to us. A transfer of the kernel's into pages it had pinned before (O_DIRECT, io_uring) is lost if it
ends later.

EOPNOTSUPP: memory under userfaultfd, whose missing pages are somebody's to fill. EINVAL: the
vdso and mappings of devices. KernelPageSize above 4096 (hugetlb): whole large pages are adopted.
"""

import errno
import mmap
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from kvmshim.client import fds, inject
from kvmshim.client.inject import Injection
from kvmshim.client.maps import PAGE, Mapping, MappingState, parse_smaps
from kvmshim.client.page_copy import PageCopy
from kvmshim.client.process import Process
from kvmshim.client.ram_file import LARGE_PAGE, RamFiles
from kvmshim.client.shared import AdoptedFile, Backing, Origin
from kvmshim.errors import KvmError

_MAP_FIXED: Final = 0x10
_MAP_NORESERVE: Final = 0x4000
_USERFAULT_FLAGS: Final = frozenset({"um", "uw", "ui"})
_DEVICE_FLAGS: Final = frozenset({"io", "pf"})
_ADVICE: Final = {  # VmFlags: madvise(2)
    "rr": mmap.MADV_RANDOM,
    "sr": mmap.MADV_SEQUENTIAL,
    "dc": mmap.MADV_DONTFORK,
    "dd": mmap.MADV_DONTDUMP,
    "hg": mmap.MADV_HUGEPAGE,
    "nh": mmap.MADV_NOHUGEPAGE,
}


@dataclass(frozen=True, slots=True)
class Private:
    """Memory of the client's that nobody else sees."""

    part: Mapping
    file: Backing | None
    """Where its pages come from, as long as the client has not written them."""


def adopt(
    process: Process, injection: Injection, memory: list[Private], files: RamFiles
) -> AdoptedFile:
    """Exchanges each piece of `memory`, which ascend, for a stretch of one new file; returns
    that."""
    start, end = memory[0].part.start, memory[-1].part.end
    states = mapping_states(process, start, end)
    chosen = [(_checked(it.part, state_of(it.part, states)), it.file) for it in memory]
    offsets, size = _places([part for (part, _), _ in chosen])
    fd = files.new(large=any(state.large_pages for (_, state), _ in chosen))
    origins: list[Origin] = []
    adopted = AdoptedFile(fd, origins)
    os.ftruncate(fd, size)
    for ((part, state), file), offset in zip(chosen, offsets, strict=True):
        origin = file if state.page_size == PAGE else None
        if part.inode or state.populated:
            PageCopy(process, part, fd, offset, origin).run()
        if origin is not None:
            origins.append(Origin(origin, part.offset, offset, part.size))
    number = fds.give(process, injection, fd, cloexec=True)
    try:
        for ((part, state), _), offset in zip(chosen, offsets, strict=True):
            exchange(injection, part, state, mmap.MAP_SHARED, number, offset)
    except OSError as error:
        raise KvmError(error.errno or errno.ENOMEM, "cannot map the client's memory") from error
    finally:
        injection.call(inject.SYS_CLOSE, number)
    return adopted


def _places(parts: list[Mapping]) -> tuple[list[int], int]:
    """Where each part begins in the file, and the size of that: a part that may have a large page
    has it at the same distance from its start in both."""
    offsets, size = [], 0
    for part in parts:
        if part.size >= LARGE_PAGE:
            size += (part.start - size) % LARGE_PAGE
        offsets.append(size)
        size += part.size
    return offsets, size


def mapping_states(process: Process, start: int, end: int) -> dict[int, MappingState]:
    """What smaps says about the mappings in [start, end), by their start."""
    return parse_smaps(process.read("smaps").decode(errors="replace"), start, end)


def state_of(part: Mapping, states: dict[int, MappingState]) -> MappingState:
    """The state of the mapping that `part` is of."""
    return states[max(start for start in states if start <= part.start)]


def _checked(part: Mapping, state: MappingState) -> tuple[Mapping, MappingState]:
    """What to exchange for `part`: whole pages of its size."""
    if state.flags & _DEVICE_FLAGS or part.name in ("[vdso]", "[vvar]", "[vsyscall]"):
        raise KvmError(errno.EINVAL, f"no memory to share at {part.start:#x}: {part.name}")
    if state.flags & _USERFAULT_FLAGS:
        raise KvmError(errno.EOPNOTSUPP, f"userfaultfd serves the memory at {part.start:#x}")
    size = state.page_size
    whole = replace(part, start=part.start // size * size, end=-(-part.end // size) * size)
    return whole, state


def exchange(
    injection: Injection, part: Mapping, state: MappingState, kind: int, number: int, offset: int
) -> None:
    """Maps the client's fd `number` over `part`, MAP_SHARED or MAP_PRIVATE as `kind` says."""
    flags = kind | _MAP_FIXED | (_MAP_NORESERVE if "nr" in state.flags else 0)
    injection.call(inject.SYS_MMAP, part.start, part.size, part.protection, flags, number, offset)
    for word, advice in _ADVICE.items():
        if word in state.flags:
            with suppress(OSError):  # advice for private memory only
                injection.call(inject.SYS_MADVISE, part.start, part.size, advice)
    if "lo" in state.flags:
        with suppress(OSError):  # the limit may have been lowered since
            injection.call(inject.SYS_MLOCK, part.start, part.size)
