"""How rounds are made: counts, turns, and what happens when a row fails."""

from collections import Counter
from dataclasses import dataclass, field

import pytest

from tools.bench import rounds
from tools.bench.results import Figures
from tools.bench.rows import Row, Sample
from tools.guests.console import Failed

MILLISECOND = 1_000_000
FAST = Row("fast", "group", 200)
SLOW = Row("slow", "group", 100)
COST = {"fast": 50, "slow": 30 * MILLISECOND}
"""Nanoseconds that doing it once takes natively."""


@dataclass
class World:
    """Machines that note who did what, and fail where they are told to."""

    turns: list[tuple[str, str, int]] = field(default_factory=list)
    starts: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    failing: set[tuple[str, str]] = field(default_factory=set)
    wrong: set[tuple[str, str]] = field(default_factory=set)
    said: list[str] = field(default_factory=list)

    def start(self, accelerator: str, *, quiet: bool = False) -> "Fake":
        if (accelerator, "boot") in self.failing:
            raise Failed(f"{accelerator} does not start")
        self.starts[accelerator] += 1
        return Fake(accelerator, {"kvmshim": 2, "tcg": 8 if quiet else 5}[accelerator], self)

    def run(self, *rows: Row, number: int = 1) -> list[Figures]:
        native = Fake("native", 1, self)
        figures = rounds.run(rows, native, self, number, self.said.append)
        assert self.starts == self.ends
        return figures


@dataclass
class Fake:
    """One machine; `slowness` in native times."""

    name: str
    slowness: int
    world: World

    @property
    def boot_nanoseconds(self) -> int:
        return self.slowness * 1000 * MILLISECOND

    def run(self, name: str, count: int) -> Sample:
        self.world.turns.append((self.name, name, count))
        if (self.name, name) in self.world.failing:
            raise Failed(f"{self.name} fails")
        digest = "bad" if (self.name, name) in self.world.wrong else str(count)
        return Sample(COST[name] * count * self.slowness, digest)

    def close(self) -> None:
        self.world.ends[self.name] += 1


@pytest.mark.parametrize(("row", "count"), [(FAST, 4_000_000), (SLOW, 3)])
def test_a_count_is_that_of_the_time_wanted(row: Row, count: int) -> None:
    assert rounds.counted(row, Fake("native", 1, World())) == count


def test_what_takes_longer_than_wanted_is_done_once() -> None:
    assert rounds.counted(Row("slow", "group", 10), Fake("native", 1, World())) == 1


def test_every_machine_has_its_turn_with_the_same_count() -> None:
    world = World()
    fast, slow, boot, quiet_boot = world.run(FAST, SLOW, number=2)
    lap = [(name, row.name) for row in (FAST, SLOW) for name in ("native", "kvmshim", "tcg")]
    assert [turn[:2] for turn in world.turns[-12:]] == lap * 2
    assert {turn[2] for turn in world.turns[-12:] if turn[1] == "slow"} == {slow.count}
    assert (fast.ratio("kvmshim", "native"), slow.ratio("tcg", "native")) == (2, 5)
    assert (boot.ratio("tcg", "kvmshim"), len(boot.rounds)) == (2.5, 2)
    assert (quiet_boot.ratio("tcg", "kvmshim"), len(quiet_boot.rounds)) == (4, 2)
    assert world.starts == {"kvmshim": 4, "tcg": 4}


def test_a_row_that_fails_in_a_guest_costs_that_row_and_a_new_guest() -> None:
    world = World(failing={("kvmshim", "fast")})
    fast, slow, *_ = world.run(FAST, SLOW, number=2)
    assert (fast.failures, fast.rounds) == (["kvmshim fails"], [])
    assert len(slow.rounds) == 2
    assert world.starts == {"kvmshim": 5, "tcg": 4}
    assert "fast: kvmshim fails" in world.said


def test_a_row_that_fails_natively_is_not_tried_in_guests() -> None:
    world = World(failing={("native", "fast")})
    fast, *_ = world.run(FAST)
    assert fast.failures == ["native fails"]
    assert [turn for turn in world.turns if turn[0] != "native"] == []


def test_a_wrong_result_is_a_failure() -> None:
    fast, slow, *_ = World(wrong={("tcg", "fast")}).run(FAST, SLOW)
    assert fast.failures[0].startswith("results differ")
    assert slow.rounds


def test_a_guest_that_does_not_start_fails_all_that_want_it() -> None:
    rows = World(failing={("kvmshim", "boot")}).run(FAST)
    assert [row.failures for row in rows] == 3 * [["kvmshim does not start"]]
