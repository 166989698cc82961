"""Rows as if they had been measured."""

from tools.bench.results import BOOT, Figures

MILLISECOND = 1_000_000


def measured(name: str, group: str, *rounds: tuple[int, int, int], count: int = 1000) -> Figures:
    """A row; a round is its milliseconds natively, on kvmshim, on TCG."""
    row = Figures(name, group, count)
    for native, kvmshim, tcg in rounds:
        times = {"native": native, "kvmshim": kvmshim, "tcg": tcg}
        row.add({machine: time * MILLISECOND for machine, time in times.items()})
    return row


def booted(kvmshim: int, tcg: int) -> Figures:
    """The start of guests, in milliseconds."""
    row = Figures(BOOT, BOOT, 1)
    row.add({"kvmshim": kvmshim * MILLISECOND, "tcg": tcg * MILLISECOND})
    return row
