"""Register descriptor lists: numbers and values of registers or MSRs on a page."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from microv import abi_gen as mv

_T = TypeVar("_T")


def portions(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in portions of one list.

    >>> [len(portion) for portion in portions(range(600))]
    [250, 250, 100]
    """
    rest = iter(items)
    while portion := list(islice(rest, mv.MV_RDL_MAX_ENTRIES)):
        yield portion


def to_page(pairs: Sequence[tuple[int, int]]) -> mv.mv_rdl_t:
    """A list of at most MV_RDL_MAX_ENTRIES numbers with values."""
    rdl = mv.mv_rdl_t(num_entries=len(pairs))
    for entry, (entry_reg, entry_val) in zip(rdl.entries, pairs, strict=False):
        entry.reg, entry.val = entry_reg, entry_val
    return rdl


def entries(rdl: mv.mv_rdl_t) -> list[tuple[int, int]]:
    """Numbers and values of the entries in use."""
    return [(entry.reg, entry.val) for entry in rdl.entries[: rdl.num_entries]]
