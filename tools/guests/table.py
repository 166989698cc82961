"""The results as people read them: a line each as they come, a table on the terminal, Markdown."""

from collections.abc import Iterable

from rich import box
from rich.table import Table

from tools.guests.run import Outcome

_HEADINGS = ("VMM", "guest", "CPUs", "boot s", "all s", "exits", "result")
_RIGHT = ("CPUs", "boot s", "all s", "exits")


def line(outcome: Outcome) -> str:
    """One line, when the guest has ended."""
    text = f"{outcome.verdict.value:4} {outcome.seconds:6.1f} s  {outcome.case.name}"
    return f"{text}  ({outcome.reason})" if outcome.reason else text


def terminal(outcomes: Iterable[Outcome]) -> Table:
    """A table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in _HEADINGS:
        table.add_column(
            heading,
            justify="right" if heading in _RIGHT else "left",
            no_wrap=heading != _HEADINGS[-1],
        )
    for outcome in outcomes:
        table.add_row(*_cells(outcome))
    return table


def markdown(outcomes: Iterable[Outcome]) -> str:
    """The same table for a document."""
    rules = ["---:" if heading in _RIGHT else "---" for heading in _HEADINGS]
    rows = [_HEADINGS, rules, *(_cells(outcome) for outcome in outcomes)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cells(outcome: Outcome) -> list[str]:
    result = outcome.verdict.value
    return [
        outcome.case.vmm,
        outcome.case.name,
        str(outcome.case.smp),
        "" if outcome.boot_seconds is None else f"{outcome.boot_seconds:.1f}",
        f"{outcome.seconds:.1f}",
        "" if outcome.exits is None else f"{outcome.exits:,}",
        f"{result}: {outcome.reason}" if outcome.reason else result,
    ]
