"""Linux boots, makes its checks and powers off."""

import re
import time

from tools.guests.catalogue import Case
from tools.guests.console import Deadline, Failed
from tools.guests.guest import Guest


def play(guest: Guest, case: Case, deadline: Deadline) -> float:
    """See `guest.Scenario`."""
    seconds = wait_until_up(guest, deadline, case.hypervisor)
    pass_checks(guest, case, deadline)
    return seconds


def wait_until_up(guest: Guest, deadline: Deadline, hypervisor: str = "KVM") -> float:
    """Until Linux has a shell: seconds from the start; it has found this hypervisor. Failed."""
    if hypervisor:
        found = re.escape(f"Hypervisor detected: {hypervisor}").encode()
        guest.console.wait_for(found, deadline)
    guest.console.wait_for(rb"@@ up\r?\n", deadline)
    return time.monotonic() - guest.started


def pass_checks(guest: Guest, case: Case, deadline: Deadline) -> None:
    """From the first check to the power switch. Failed."""
    for check in case.all_checks:
        found = guest.console.wait_for(rb"@@ (ok|failed) (\w+)\r?\n", deadline)
        if (found[1], found[2].decode()) != (b"ok", check):
            raise Failed(f"check {check}: {found[0].decode().strip()}")
    guest.console.wait_for(rb"@@ done", deadline)
    guest.wait_for_power_off(deadline)
