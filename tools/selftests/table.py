"""The results as people read them: a line each on the terminal, a table in Markdown."""

from collections.abc import Iterable
from pathlib import Path

from tools.report import Verdict
from tools.selftests.catalogue import Entry
from tools.selftests.run import Outcome

Row = tuple[Entry, Outcome]
_SAID_LINES = 20


def line(entry: Entry, outcome: Outcome) -> str:
    """One line of the terminal. An exclamation mark: not what the catalogue expects."""
    mark = " " if as_expected(entry, outcome) else "!"
    text = f"{mark} {outcome.verdict.value:4} {outcome.seconds:6.1f} s  {entry.path}"
    return f"{text}  ({outcome.reason})" if outcome.reason else text


def as_expected(entry: Entry, outcome: Outcome) -> bool:
    """Whether the catalogue says so."""
    return outcome.verdict in entry.expected


def surprises(rows: Iterable[Row], logs: Path) -> str:
    """Once more those that the catalogue does not expect, with the end of what each printed."""
    texts = []
    for entry, outcome in rows:
        if not as_expected(entry, outcome):
            said = (logs / f"{entry.name}.txt").read_text(errors="replace").splitlines()
            texts += [line(entry, outcome), *(f"    {text}" for text in said[-_SAID_LINES:])]
    return "".join(f"{text}\n" for text in texts)


def markdown(rows: Iterable[Row]) -> str:
    """A table, by tier."""
    lines = ["| tier | program | result | s | why |", "|---|---|---|---|---|"]
    for entry, outcome in sorted(rows, key=lambda row: (row[0].tier, row[0].name)):
        command = " ".join([entry.name, *entry.arguments])
        plain = outcome.verdict is Verdict.PASS and not entry.arguments and not entry.cpu
        cells = [
            str(entry.tier),
            f"`{command}`",
            outcome.verdict.value,
            f"{outcome.seconds:.1f}",
            "" if plain else entry.why or outcome.reason,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
