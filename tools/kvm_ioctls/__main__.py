"""`make kvm-ioctls`: the `kvm-ioctls` crate's own tests against `kvmshim run`.

The exit status is 1 when a test fails that should pass, or passes that is said not to.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tools.kvm_ioctls.crate import VERSION, build_tests
from tools.kvm_ioctls.expected import CANNOT_PASS

_WIDTH: Final = 140
"""Columns: a test's name and why it cannot pass, on one line also where nobody looks."""


@dataclass(frozen=True)
class Outcome:
    """One test's run."""

    name: str
    result: str
    """passed, failed, or ignored: by the crate itself."""
    seconds: float
    said: str

    @property
    def reason(self) -> str:
        """Why it cannot pass, if so."""
        return CANNOT_PASS.get(self.name, "")

    @property
    def as_expected(self) -> bool:
        """Whether it failed just where it cannot pass."""
        return self.result == "ignored" or (self.result == "failed") == bool(self.reason)


def main() -> int:
    """Build, run, print, judge."""
    program = build_tests()
    outcomes = _run(program)
    console = Console(soft_wrap=True, width=_WIDTH)
    console.print(_table(outcomes))
    surprises = [outcome for outcome in outcomes if not outcome.as_expected]
    for outcome in surprises:
        console.rule(outcome.name)
        console.print(outcome.said, markup=False, highlight=False)
    missing = CANNOT_PASS.keys() - {outcome.name for outcome in outcomes}
    for name in sorted(missing):
        console.print(f"{name} is not there any more")
    console.print(_summary(outcomes))
    return 1 if surprises or missing else 0


def _run(program: Path) -> list[Outcome]:
    inside = [sys.executable, "-m", "tools.kvm_ioctls.inside", str(program)]
    command = [sys.executable, "-m", "kvmshim", "run", "--", *inside]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [Outcome(**json.loads(line)) for line in printed.splitlines()]


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title=f"kvm-ioctls {VERSION}, its own tests")
    table.add_column("test", no_wrap=True)
    table.add_column("result")
    table.add_column("seconds", justify="right")
    table.add_column("why not")
    for outcome in outcomes:
        name = outcome.name.replace("ioctls::", "").replace("tests::", "")
        table.add_row(name, outcome.result, f"{outcome.seconds:.2f}", outcome.reason)
    return table


def _summary(outcomes: list[Outcome]) -> str:
    def count(result: str, *, known: bool = False) -> int:
        return sum(1 for it in outcomes if it.result == result and bool(it.reason) == known)

    cannot = count("failed", known=True)
    return (
        f"kvm-ioctls {VERSION}: {count('passed')} passed, {count('failed')} failed, "
        f"{cannot + count('ignored')} skipped ({cannot} cannot pass here, "
        f"{count('ignored')} ignored by the crate)"
    )


if __name__ == "__main__":
    sys.exit(main())
