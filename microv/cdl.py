"""CPUID descriptor lists: what CPUID answers, leaf by leaf."""

from collections.abc import Sequence
from dataclasses import dataclass

from microv import abi_gen as mv


@dataclass(frozen=True, slots=True)
class CdlEntry:
    """The answer to one leaf, or with MV_CPUID_FLAG_SIGNIFICANT_INDEX to one subleaf of it."""

    function: int
    index: int = 0
    flags: int = 0
    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0


def to_page(entries: Sequence[CdlEntry], flags: int) -> mv.mv_cdl_t:
    """A list of at most MV_CDL_MAX_ENTRIES entries, with MV_CDL_FLAG_* in reg0."""
    cdl = mv.mv_cdl_t(num_entries=len(entries))
    cdl.reg[0] = flags
    for to, entry in zip(cdl.entries, entries, strict=False):
        to.fun, to.idx, to.flags = entry.function, entry.index, entry.flags
        to.eax, to.ebx, to.ecx, to.edx = entry.eax, entry.ebx, entry.ecx, entry.edx
    return cdl


def entries(cdl: mv.mv_cdl_t) -> list[CdlEntry]:
    """The entries in use."""
    return [
        CdlEntry(entry.fun, entry.idx, entry.flags, entry.eax, entry.ebx, entry.ecx, entry.edx)
        for entry in cdl.entries[: cdl.num_entries]
    ]


def everything_from(index: int) -> mv.mv_cdl_t:
    """The question for all entries of a table from `index` on."""
    cdl = to_page((), mv.MV_CDL_FLAG_ALL)
    cdl.reg[1] = index
    return cdl
