"""What was measured, as tables: on the terminal and in Markdown."""

from collections.abc import Iterable, Iterator

from rich import box
from rich.table import Table

from tools.bench.results import Figures, Mean, means

_HEADINGS = (
    "group",
    "row",
    "native",
    "kvmshim",
    "TCG",
    "kvmshim / native",
    "TCG / native",
    "TCG / kvmshim",
    "",
)
_LEFT = ("group", "row", "")
_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns"))


def terminal(figures: Iterable[Figures], title: str) -> Table:
    """A table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, title=title)
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in _LEFT else "right", no_wrap=True)
    for cells in _rows(figures):
        table.add_row(*cells)
    return table


def markdown(figures: Iterable[Figures]) -> str:
    """The same table for a document."""
    rules = ["---" if heading in _LEFT else "---:" for heading in _HEADINGS]
    rows = [_HEADINGS, rules, *_rows(figures)]
    return _lines(rows)


def plain(printed: Table) -> str:
    """A table of the terminal for a document, with its title in front."""
    columns = [(str(column.header), list(column.cells)) for column in printed.columns]
    headings = tuple(heading for heading, _ in columns)
    rows = zip(*(map(str, cells) for _, cells in columns), strict=True)
    rules = ["---:" if column.justify == "right" else "---" for column in printed.columns]
    return f"{printed.title}\n\n{_lines([headings, rules, *rows])}"


def duration(nanoseconds: float | None) -> str:
    """With three digits and a unit; empty where there is none."""
    if nanoseconds is None:
        return ""
    size, unit = next((pair for pair in _UNITS if nanoseconds >= pair[0]), _UNITS[-1])
    value = nanoseconds / size
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"


def ratio(value: float | None) -> str:
    """Two digits behind the point, or fewer where it is large; empty where there is none."""
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def summary(figures: Iterable[Figures]) -> str:
    """The last line: the means of all rows, and how many rows are slower than TCG's."""
    rows = list(figures)
    every = means(rows)[-1]
    slower = [row.name for row in rows if row.slower_than_tcg]
    failed = [row.name for row in rows if row.failures]
    text = (
        f"bench: kvmshim takes {ratio(every.kvmshim)} times as long as the machine itself, TCG"
        f" {ratio(every.tcg)} times; kvmshim is {ratio(every.tcg_per_kvmshim)} times as fast as TCG"
        f" (geometric means); slower than TCG: {', '.join(slower) or 'no row'}"
    )
    return f"{text}; failed: {', '.join(failed)}" if failed else text


def _rows(figures: Iterable[Figures]) -> Iterator[tuple[str, ...]]:
    rows = list(figures)
    for row in rows:
        yield (
            row.group,
            row.name,
            *(duration(row.once(machine)) for machine in ("native", "kvmshim", "tcg")),
            ratio(row.ratio("kvmshim", "native")),
            ratio(row.ratio("tcg", "native")),
            ratio(row.ratio("tcg", "kvmshim")),
            _remark(row),
        )
    for mean in means(rows):
        yield _mean(mean)


def _lines(rows: Iterable[Iterable[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _remark(row: Figures) -> str:
    if row.failures:
        return f"failed: {row.failures[0]}"
    return "slower than TCG" if row.slower_than_tcg else ""


def _mean(mean: Mean) -> tuple[str, ...]:
    return (
        "geometric mean",
        mean.name,
        *("", "", ""),
        ratio(mean.kvmshim),
        ratio(mean.tcg),
        ratio(mean.tcg_per_kvmshim),
        "",
    )
