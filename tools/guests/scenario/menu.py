"""SeaBIOS asks for a key, gets it, and shows its boot menu."""

import time

from tools.guests.catalogue import Case
from tools.guests.console import Deadline
from tools.guests.guest import Guest

_ESCAPE = b"\x1b"


def play(guest: Guest, case: Case, deadline: Deadline) -> float:  # noqa: ARG001
    """See `guest.Scenario`."""
    console = guest.console
    console.wait_for(rb"SeaBIOS \(version", deadline)
    console.wait_for(rb"Press ESC for boot menu", deadline)
    seconds = time.monotonic() - guest.started
    console.type(_ESCAPE)
    console.wait_for(rb"Select boot device:\s+1\.", deadline)
    return seconds
