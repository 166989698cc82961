"""`make selftests`: the KVM selftests of Linux 6.1, each below a `kvmshim run` of its own.

Exit status 0 if every result is the one that the catalogue expects, 1 if not, 2 if the programs
cannot be had.
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tools import report
from tools.selftests import catalogue, source, table
from tools.selftests.catalogue import Entry
from tools.selftests.run import Outcome, run

_BUILD = Path(__file__).resolve().parents[2] / "build" / "selftests"
_LOGS = _BUILD / "logs"


def main() -> int:
    """Builds, runs, prints."""
    arguments = _parser().parse_args()
    try:
        programs = source.built(_BUILD / "programs")
    except source.Unavailable as unavailable:
        print(unavailable, file=sys.stderr)
        return 2
    rows = []
    _LOGS.mkdir(exist_ok=True)
    entries = [entry.with_patience(arguments.patience) for entry in _chosen(arguments)]
    for entry, outcome in _results(entries, programs, arguments.jobs):
        print(table.line(entry, outcome), flush=True)
        rows.append((entry, outcome))
    summary = report.summary("selftests", (outcome.verdict for _, outcome in rows))
    if arguments.document:
        report.document(
            arguments.document,
            "tools.selftests",
            versions=f"{source.PACKAGE} {source.version()}",
            result=summary,
            table=table.markdown(rows),
        )
    print(table.surprises(rows, _LOGS), end="")
    print(summary)
    return 0 if all(table.as_expected(*row) for row in rows) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.selftests", description=__doc__)
    parser.add_argument("names", nargs="*", help="only programs with one of these in their path")
    parser.add_argument("--tier", type=int, action="append", help="only programs of this tier")
    parser.add_argument("--ci", action="store_true", help="only those that the gate runs")
    parser.add_argument("--jobs", type=int, default=1, help="how many run at a time")
    parser.add_argument(
        "--patience", type=int, default=1, help="how many times as long as usual one may take"
    )
    parser.add_argument("--document", type=Path, help="write the table to the end of this file")
    return parser


def _chosen(arguments: argparse.Namespace) -> list[Entry]:
    return [
        entry
        for entry in catalogue.load()
        if (not arguments.tier or entry.tier in arguments.tier)
        and (entry.ci or not arguments.ci)
        and (not arguments.names or any(name in entry.path for name in arguments.names))
    ]


def _results(entries: list[Entry], programs: Path, jobs: int) -> Iterator[table.Row]:
    """As they come; those that run alone at the end."""
    crowd = [entry for entry in entries if not entry.alone]
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(_outcome, entry, programs): entry for entry in crowd}
        for future in as_completed(futures):
            yield futures[future], future.result()
    for entry in entries:
        if entry.alone:
            yield entry, _outcome(entry, programs)


def _outcome(entry: Entry, programs: Path) -> Outcome:
    outcome = run(
        programs / entry.path,
        entry.arguments,
        entry.limit_seconds,
        _LOGS / f"{entry.name}.txt",
        cpu=entry.cpu,
    )
    return outcome.unless_stalled(entry.stalled)


if __name__ == "__main__":
    sys.exit(main())
