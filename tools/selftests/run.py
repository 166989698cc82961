"""Runs one program below `kvmshim run` and says how it went."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from tools.report import Verdict

_KVMSHIM: Final = Path(sys.executable).with_name("kvmshim")
_GUARD: Final = Path(__file__).with_name("guard.py")
_SKIPPED: Final = 4
"""KSFT_SKIP."""
_LAST_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class Outcome:
    """One row of the table."""

    name: str
    verdict: Verdict
    reason: str
    """Why it failed or skipped, in the program's own words where it has some."""
    seconds: float

    def unless_stalled(self, words: str) -> Self:
        """The same, but a failure whose reason has these words in it is a skip."""
        stalled = self.verdict is Verdict.FAIL and words and words in self.reason
        return replace(self, verdict=Verdict.SKIP) if stalled else self


def run(
    program: Path, arguments: list[str], limit_seconds: float, log: Path, *, cpu: str = ""
) -> Outcome:
    """Runs it with a /dev/kvm of its own; what it prints goes to `log`. `cpu`: intel or amd.

    It and its children are a process group, of which nothing lives on after `limit_seconds`.
    """
    options = ["--cpu", cpu] if cpu else []
    guard: list[Path | str] = [sys.executable, "-I", "-S", _GUARD]
    guarded = [_KVMSHIM, "run", *options, "--", *guard, program, *arguments]
    return watch(program.name, guarded, limit_seconds, log)


def watch(name: str, command: list[Path | str], limit_seconds: float, log: Path) -> Outcome:
    """Runs a command as a process group and reads its exit status as a selftest's."""
    start = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
    seconds = time.monotonic() - start
    said = _last_text(log)
    if status is None:
        return Outcome(name, Verdict.FAIL, f"not done after {limit_seconds:.0f} s", seconds)
    return Outcome(name, *_judge(status, said), seconds)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of the group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_text(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_BYTES))
        return file.read().decode(errors="replace")


def _judge(status: int, said: str) -> tuple[Verdict, str]:
    if status == 0:
        return Verdict.PASS, ""
    if status == _SKIPPED:
        found = re.search(r"SKIP\s*-?\s*(.*)", said)
        return Verdict.SKIP, found[1].removeprefix("Requirement not met: ") if found else ""
    return Verdict.FAIL, _failure(said) or f"exit status {status}"


def _failure(said: str) -> str:
    """Where the assertion stands that did not hold, and its message if it has one.

    The program prints a heading, the place, errno, the stack by numbered lines, the message.
    """
    place = re.search(r"==== Test Assertion Failure ====\n\s*(\S+): (.*)", said)
    if not place:
        lines = said.strip().splitlines()
        return lines[-1].strip() if lines else ""
    message = re.search(r"\n\s+\d+\t.*\n  (?! )(\S.*)", said[place.end() :])
    return f"{place[1]}: {message[1] if message else place[2]}"
