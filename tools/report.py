"""What tools say of the programs of others that they run: verdicts, tables kept in documents."""

import enum
import platform
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


class Verdict(enum.Enum):
    """How a program ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


def summary(subject: str, verdicts: Iterable[Verdict]) -> str:
    """The last line: how many of each."""
    count = Counter(verdicts)
    return (
        f"{subject}: {count[Verdict.PASS]} passed, {count[Verdict.FAIL]} failed,"
        f" {count[Verdict.SKIP]} skipped"
    )


def document(path: Path, tool: str, *, versions: str, result: str, table: str) -> None:
    """Replaces the end of a document: the day, the machine, `versions` of what was run, a
    `summary` and a table in Markdown. `tool` is the module that calls."""
    mark = f"<!-- What follows is written by `python -m {tool} --document FILE`. -->\n"
    written = path.read_text().partition(mark)[0]
    said = f"{machine()}, {versions}: {result.partition(': ')[2]}."
    path.write_text(f"{written}{mark}\n{said}\n\n{table}")


def machine() -> str:
    """The day, the processors, the kernel."""
    return f"{time.strftime('%Y-%m-%d')}, {_processor()}, Linux {platform.release()}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}"
