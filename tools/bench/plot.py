"""The ratios as bars, in SVG: how many times as long as the machine itself, in powers of ten."""

from collections.abc import Iterable, Iterator
from html import escape
from math import ceil, log10
from typing import Final

from tools.bench.results import Figures, means
from tools.bench.table import ratio

_WIDTH: Final = 900
_LABELS: Final = 190
"""Where the bars begin; the names are left of it."""
_NUMBERS: Final = 60
"""What is kept free for the figure behind the longest bar."""
_TOP: Final = 92
_ROW: Final = 26
_BAR: Final = 9
_GAP: Final = 12
"""Before the first row of a group."""
_LEAST: Final = 0.1
_COLOURS: Final = {"kvmshim": "#1f6fb4", "tcg": "#e08a2e"}
_SHOWN: Final = {"kvmshim": "kvmshim", "tcg": "QEMU TCG"}

Bars = tuple[str, dict[str, float]]
"""A name, and the length of each bar in native times."""


def svg(figures: Iterable[Figures], title: str, subtitle: str) -> str:
    """The picture."""
    groups = list(_groups(figures))
    rows = sum(len(bars) for bars in groups)
    height = _TOP + rows * _ROW + len(groups) * _GAP + 20
    longest = max((max(b.values()) for bars in groups for _, b in bars), default=10.0)
    scale = _Scale(max(10.0, 10 ** ceil(log10(longest))))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(10, 24, title, size=16),
        _text(10, 44, subtitle, fill="#555555"),
        *_legend(),
        *_grid(scale, height),
    ]
    y = _TOP
    for bars in groups:
        y += _GAP
        for name, lengths in bars:
            parts += _bars(name, lengths, y, scale)
            y += _ROW
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """Where a ratio is: logarithmic."""

    def __init__(self, most: float) -> None:
        self.most = most

    def x(self, value: float) -> float:
        share = log10(max(value, _LEAST) / _LEAST) / log10(self.most / _LEAST)
        return round(_LABELS + share * (_WIDTH - _LABELS - _NUMBERS), 1)


def _groups(figures: Iterable[Figures]) -> Iterator[list[Bars]]:
    """The rows that have a native time, by group, and their means."""
    rows = [row for row in figures if row.ratio("kvmshim", "native") is not None]
    for group in dict.fromkeys(row.group for row in rows):
        yield [(row.name, _lengths(row)) for row in rows if row.group == group]
    if rows:
        every = means(rows)[-1]
        both = {"kvmshim": every.kvmshim, "tcg": every.tcg}
        yield [("geometric mean", {name: value for name, value in both.items() if value})]


def _lengths(row: Figures) -> dict[str, float]:
    known = {name: row.ratio(name, "native") for name in _COLOURS}
    return {name: value for name, value in known.items() if value is not None}


def _legend() -> Iterator[str]:
    x = _LABELS
    for name, colour in _COLOURS.items():
        yield f'<rect x="{x}" y="56" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 18, 66, f"{_SHOWN[name]} / native")
        x += 150


def _grid(scale: _Scale, height: int) -> Iterator[str]:
    value = _LEAST
    while value <= scale.most * 1.01:
        x = scale.x(value)
        colour = "#555555" if abs(value - 1) < _LEAST else "#dddddd"
        yield (f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{height - 20}" stroke="{colour}"/>')
        yield _text(x, _TOP - 4, f"{value:g}", anchor="middle", fill="#555555")
        value = round(value * 10, 3)


def _bars(name: str, lengths: dict[str, float], y: int, scale: _Scale) -> Iterator[str]:
    yield _text(_LABELS - 8, y + _ROW / 2, name, anchor="end")
    for index, (machine, value) in enumerate(lengths.items()):
        begin, end = sorted((scale.x(1), scale.x(value)))
        top = y + 2 + index * (_BAR + 1)
        yield (
            f'<rect x="{begin}" y="{top}" width="{max(end - begin, 1):.1f}" height="{_BAR}"'
            f' fill="{_COLOURS[machine]}"/>'
        )
        yield _text(end + 4, top + _BAR, ratio(value), size=10)


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", fill: str = "#000000"
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">'
        f"{escape(text)}</text>"
    )
