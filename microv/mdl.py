"""Runs of memory for mmio_map and mmio_unmap, merged and put on pages."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from microv import abi_gen as mv


class Run(NamedTuple):
    """Contiguous pages of guest memory; all numbers but `flags` are multiples of the page size."""

    gpa: int
    address: int
    """In this process."""
    size: int
    flags: int
    """MV_MAP_FLAG_*"""

    def continues(self, before: "Run") -> bool:
        """Whether this run begins where `before` ends, in the guest and here."""
        return self[:2] == (before.gpa + before.size, before.address + before.size) and (
            self.flags == before.flags
        )


def merged(runs: Iterable[Run]) -> Iterator[Run]:
    """The runs in their order, with those that continue their predecessor joined to it.

    >>> list(merged([Run(0, 0x7000, 0x1000, 3), Run(0x1000, 0x8000, 0x2000, 3)]))
    [Run(gpa=0, address=28672, size=12288, flags=3)]
    """
    current: Run | None = None
    for run in runs:
        if current is not None and run.continues(current):
            current = current._replace(size=current.size + run.size)
        else:
            if current is not None:
                yield current
            current = run
    if current is not None:
        yield current


def lists(runs: Iterable[Run]) -> Iterator[list[Run]]:
    """Merged runs in portions of one memory descriptor list."""
    portion: list[Run] = []
    for run in merged(runs):
        portion.append(run)
        if len(portion) == mv.MV_MDL_MAX_ENTRIES:
            yield portion
            portion = []
    if portion:
        yield portion


def to_page(runs: list[Run]) -> mv.mv_mdl_t:
    """A memory descriptor list of at most MV_MDL_MAX_ENTRIES runs."""
    mdl = mv.mv_mdl_t(num_entries=len(runs))
    for entry, run in zip(mdl.entries, runs, strict=False):
        entry.dst, entry.src, entry.bytes, entry.flags = run
    return mdl
