"""What was measured of a row, and the ratios that say how well kvmshim does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from statistics import median
from typing import Final

BOOT: Final = "boot"
"""The row, and the group, of a guest's start: there is no native time."""
QUIET_BOOT: Final = "boot-quiet"
"""The same with a kernel that says nothing on its console."""


@dataclass
class Figures:
    """One row. Ratios are medians of those of single rounds, so that a load that comes and goes
    between rounds does not count."""

    name: str
    group: str
    count: int
    rounds: list[Mapping[str, int]] = field(default_factory=list)
    """Nanoseconds by machine: native, kvmshim, tcg."""
    failures: list[str] = field(default_factory=list)

    def add(self, nanoseconds: Mapping[str, int]) -> None:
        """One more round."""
        self.rounds.append(nanoseconds)

    def once(self, machine: str) -> float | None:
        """Nanoseconds that doing it once takes, or None where it was not measured."""
        times = [lap[machine] for lap in self.rounds if machine in lap]
        return median(times) / self.count if times else None

    def ratio(self, machine: str, anchor: str) -> float | None:
        """How many times as long a machine takes as another, or None."""
        laps = [lap for lap in self.rounds if machine in lap and anchor in lap]
        return median(lap[machine] / lap[anchor] for lap in laps) if laps else None

    @property
    def slower_than_tcg(self) -> bool:
        """Whether kvmshim is."""
        return (self.ratio("tcg", "kvmshim") or 1) < 1


@dataclass(frozen=True)
class Mean:
    """Geometric means over rows."""

    name: str
    kvmshim: float | None
    """In native times; None if no row has one."""
    tcg: float | None
    tcg_per_kvmshim: float | None


def geometric_mean(values: Iterable[float | None]) -> float | None:
    """Of those that there are; None if there are none."""
    known = [value for value in values if value is not None]
    return prod(value ** (1 / len(known)) for value in known) if known else None


def mean(name: str, figures: Iterable[Figures]) -> Mean:
    """Of rows."""
    rows = list(figures)
    return Mean(
        name,
        geometric_mean(row.ratio("kvmshim", "native") for row in rows),
        geometric_mean(row.ratio("tcg", "native") for row in rows),
        geometric_mean(row.ratio("tcg", "kvmshim") for row in rows),
    )


def means(figures: Iterable[Figures]) -> list[Mean]:
    """Of each group, in their order, and of all rows."""
    rows = list(figures)
    groups = list(dict.fromkeys(row.group for row in rows))
    by_group = [mean(group, (row for row in rows if row.group == group)) for group in groups]
    return [*by_group, mean("all rows", rows)]
