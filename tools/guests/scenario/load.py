"""Linux works for minutes on all its processors: each round of each worker is waited for."""

from typing import Final

from tools.guests.catalogue import Case
from tools.guests.console import Deadline
from tools.guests.guest import Guest
from tools.guests.scenario.boot import pass_checks, wait_until_up

_PROGRESS: Final = rb"@@ (round \d+ \d+|loaded)\r?\n"
_ROUND_SECONDS: Final = 300
"""Within which some worker ends a round, on a busy host too."""


def play(guest: Guest, case: Case, deadline: Deadline) -> float:
    """See `guest.Scenario`."""
    seconds = wait_until_up(guest, deadline)
    said = b""
    while said != b"loaded":
        deadline.left()
        found = guest.console.wait_for(_PROGRESS, Deadline(_ROUND_SECONDS))
        said = found[1]
    pass_checks(guest, case, deadline)
    return seconds
