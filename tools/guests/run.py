"""Runs one case and says how it went."""

import importlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tools.guests.catalogue import Case
from tools.guests.console import Deadline, Failed
from tools.guests.files import Files
from tools.guests.guest import Scenario, Vmm
from tools.report import Verdict


@dataclass(frozen=True)
class Outcome:
    """One row of the table."""

    case: Case
    verdict: Verdict
    reason: str
    """Why it failed or was skipped."""
    boot_seconds: float | None
    """From the start of the VMM until the guest was up."""
    seconds: float
    exits: int | None


def run(case: Case, files: Files, logs: Path) -> Outcome:
    """Runs it; the guest's console goes to a file in `logs`."""
    vmm = cast(Vmm, importlib.import_module(f"tools.guests.vmm.{case.vmm}"))
    scenario = cast(Scenario, importlib.import_module(f"tools.guests.scenario.{case.scenario}"))
    missing = vmm.missing(case)
    if missing:
        return Outcome(case, Verdict.SKIP, missing, None, 0, None)
    begin = time.monotonic()
    boot_seconds = exits = None
    verdict, reason = Verdict.PASS, ""
    try:
        with tempfile.TemporaryDirectory(prefix="kvmshim-guest-") as folder:
            deadline = Deadline(case.seconds + 60 * case.minutes)
            log = logs / f"{case.file_name}.txt"
            with vmm.start(case, files, Path(folder), log) as guest:
                boot_seconds = scenario.play(guest, case, deadline)
                exits = guest.exits()
    except Failed as failed:
        verdict = Verdict.FAIL
        reason = f"{failed}; {case.note}" if case.note else str(failed)
    return Outcome(case, verdict, reason, boot_seconds, time.monotonic() - begin, exits)
