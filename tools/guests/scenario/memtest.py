"""Memtest86+ comes to its fourth test without an error."""

import time

from tools.guests.catalogue import Case
from tools.guests.console import Deadline, Failed
from tools.guests.guest import Guest


def play(guest: Guest, case: Case, deadline: Deadline) -> float:  # noqa: ARG001
    """See `guest.Scenario`."""
    console = guest.console
    console.wait_for(rb"Memtest86\+", deadline)
    seconds = time.monotonic() - guest.started
    # Not every test is on the screen: it is drawn once in a while.
    console.wait_for(rb"#[3-9] +\[", deadline)
    errors = console.wait_for(rb"Errors:\D*(\d+)", deadline)[1]
    if errors != b"0":
        raise Failed(f"{errors.decode()} errors")
    return seconds
