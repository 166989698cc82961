"""Ratios and means of what was measured."""

import pytest

from tests.unit.tools.bench.figures import booted, measured
from tools.bench.results import Figures, geometric_mean, means


def test_a_ratio_is_the_median_of_those_of_rounds() -> None:
    # The second round was under load: its times are long, its ratio is another.
    row = measured("alu", "integer", (100, 200, 300), (900, 990, 9000), (100, 220, 300))
    assert row.ratio("kvmshim", "native") == 2
    assert row.ratio("tcg", "native") == 3
    assert row.ratio("tcg", "kvmshim") == 1.5


def test_doing_it_once_takes_the_median_by_the_count() -> None:
    row = measured("alu", "integer", (100, 200, 300), (900, 990, 9000), (110, 220, 300))
    assert row.once("native") == 110_000


def test_what_was_not_measured_has_no_figures() -> None:
    row = Figures("alu", "integer", 1)
    assert (row.once("native"), row.ratio("kvmshim", "native")) == (None, None)
    assert not row.slower_than_tcg
    assert booted(900, 800).ratio("kvmshim", "native") is None


def test_slower_than_tcg_is_what_takes_longer() -> None:
    assert measured("alu", "integer", (100, 301, 300)).slower_than_tcg
    assert not measured("alu", "integer", (100, 300, 300)).slower_than_tcg
    assert booted(900, 800).slower_than_tcg


def test_means_are_geometric_by_group_and_of_all() -> None:
    rows = [
        measured("alu", "integer", (100, 100, 400)),
        measured("flags", "integer", (100, 400, 1600)),
        measured("x87", "floating", (100, 200, 1600)),
        booted(800, 400),
    ]
    by_name = {mean.name: mean for mean in means(rows)}
    assert list(by_name) == ["integer", "floating", "boot", "all rows"]
    assert by_name["integer"].kvmshim == pytest.approx(2)
    assert by_name["integer"].tcg == pytest.approx(8)
    assert by_name["boot"].kvmshim is None
    assert by_name["all rows"].kvmshim == pytest.approx(2)
    # The start has no native time, but a time on each of both.
    assert by_name["all rows"].tcg_per_kvmshim == pytest.approx((4 * 4 * 8 * 0.5) ** (1 / 4))


def test_there_is_no_mean_of_nothing() -> None:
    assert geometric_mean([]) is None
    assert geometric_mean([None, None]) is None
    assert geometric_mean([2, None, 8]) == pytest.approx(4)
