"""The plot: what its bars say, and that it stays inside of the picture."""

from xml.etree import ElementTree

from tests.unit.tools.bench.figures import booted, measured
from tools.bench import plot
from tools.bench.results import Figures

SVG = "{http://www.w3.org/2000/svg}"
KVMSHIM = "#1f6fb4"
TCG = "#e08a2e"
LEGEND = 1


def drawn(*rows: Figures) -> ElementTree.Element:
    return ElementTree.fromstring(plot.svg(rows, "title <1>", "a & b"))


def widths(picture: ElementTree.Element, colour: str) -> list[float]:
    """Of the bars of one machine, from the top."""
    bars = [rect for rect in picture.iter(f"{SVG}rect") if rect.get("fill") == colour]
    return [float(bar.get("width", "")) for bar in bars][LEGEND:]


def texts(picture: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in picture.iter(f"{SVG}text")]


def test_bars_are_logarithmic() -> None:
    picture = drawn(
        measured("one", "integer", (100, 200, 400)), measured("two", "memory", (100, 800, 1600))
    )
    # The last is the geometric mean.
    two, eight, four = widths(picture, KVMSHIM)
    assert (round(eight / two, 1), round(four / two, 1)) == (3, 2)
    assert len(widths(picture, TCG)) == 3


def test_names_and_ratios_are_written() -> None:
    said = texts(drawn(measured("one<", "integer", (100, 150, 9000))))
    assert {"title <1>", "a & b", "one<", "1.50", "90.0", "geometric mean"} <= set(said)


def test_what_has_no_native_time_is_left_out() -> None:
    assert "boot" not in texts(drawn(measured("one", "integer", (1, 2, 3)), booted(800, 400)))
    assert widths(drawn(booted(800, 400)), KVMSHIM) == []


def test_all_is_inside_of_the_picture() -> None:
    picture = drawn(*(measured(f"row {i}", f"{i // 3}", (1000, 1, 200_000)) for i in range(9)))
    _, _, width, height = (float(number) for number in picture.get("viewBox", "").split())
    for rect in picture.iter(f"{SVG}rect"):
        x, y = float(rect.get("x", 0)), float(rect.get("y", 0))
        assert 0 <= x <= x + float(rect.get("width", "")) <= width
        assert 0 <= y <= y + float(rect.get("height", "")) <= height
