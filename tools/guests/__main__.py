"""`make guests`: boots real systems under real virtual machine monitors, on kvmshim.

The exit status is 1 when one does not do what it should.
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tools import report
from tools.guests import catalogue, packages, table
from tools.guests.catalogue import Case
from tools.guests.files import Files
from tools.guests.run import Outcome, run

_WIDTH = 140


def main() -> int:
    """Prepares, boots, prints."""
    arguments = _parser().parse_args()
    cases = [
        _for_as_long(case, arguments.minutes, arguments.patience) for case in _chosen(arguments)
    ]
    try:
        files = Files.made()
    except packages.Unavailable as unavailable:
        print(unavailable, file=sys.stderr)
        return 2
    outcomes = []
    for outcome in _outcomes(cases, files, arguments.jobs):
        print(table.line(outcome), flush=True)
        outcomes.append(outcome)
    outcomes.sort(key=lambda outcome: cases.index(outcome.case))
    Console(soft_wrap=True, width=_WIDTH).print(table.terminal(outcomes))
    summary = report.summary("guests", (outcome.verdict for outcome in outcomes))
    if arguments.document:
        report.document(
            arguments.document,
            "tools.guests",
            versions=f"{packages.versions()} in the guests",
            result=summary,
            table=table.markdown(outcomes),
        )
    print(summary)
    return 1 if any(outcome.verdict is report.Verdict.FAIL for outcome in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.guests", description=__doc__)
    parser.add_argument("names", nargs="*", help="only guests with one of these in their name")
    parser.add_argument("--vmm", action="append", help="only guests of this VMM")
    parser.add_argument("--ci", action="store_true", help="only those that the gate runs")
    parser.add_argument("--jobs", type=int, default=1, help="how many run at a time")
    parser.add_argument("--minutes", type=int, help="how long guests under load work")
    parser.add_argument(
        "--patience", type=int, default=1, help="how many times as long as usual a guest may take"
    )
    parser.add_argument("--document", type=Path, help="write the table to the end of this file")
    return parser


def _chosen(arguments: argparse.Namespace) -> list[Case]:
    return [
        case
        for case in catalogue.load()
        if (not arguments.vmm or case.vmm in arguments.vmm)
        and (case.ci or not arguments.ci)
        and (not arguments.names or any(name in case.name for name in arguments.names))
        and (not case.minutes or arguments.names)
    ]


def _for_as_long(case: Case, minutes: int | None, patience: int) -> Case:
    case = replace(case, seconds=case.seconds * patience)
    return replace(case, minutes=minutes) if case.minutes and minutes else case


def _outcomes(cases: list[Case], files: Files, jobs: int) -> Iterator[Outcome]:
    """As they come."""
    logs = packages.BUILD / "logs"
    logs.mkdir(exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(run, case, files, logs) for case in cases]):
            yield future.result()


if __name__ == "__main__":
    sys.exit(main())
