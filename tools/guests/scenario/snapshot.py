"""Linux counts, is saved, counts on, is loaded again and counts on from where it was saved."""

from typing import Final

from tools.guests.catalogue import Case
from tools.guests.console import Deadline, Failed
from tools.guests.guest import Guest
from tools.guests.scenario.boot import pass_checks, wait_until_up
from tools.guests.vmm.qemu import QemuGuest

_COUNT: Final = rb"@@ count (\d+)\r?\n"
_SAVED_AT: Final = 3
_LOADED_AT: Final = 8


def play(guest: Guest, case: Case, deadline: Deadline) -> float:
    """See `guest.Scenario`."""
    assert isinstance(guest, QemuGuest)
    seconds = wait_until_up(guest, deadline)
    _count_to(guest, _SAVED_AT, deadline)
    _monitor(guest, "savevm here", deadline)
    _count_to(guest, _LOADED_AT, deadline)
    _monitor(guest, "loadvm here", deadline)
    # What was printed between the two may come now.
    while (count := _next(guest, deadline)) > _LOADED_AT - 1:
        if count > _LOADED_AT + 3:
            raise Failed(f"the guest counts on: {count}")
    pass_checks(guest, case, deadline)
    return seconds


def _monitor(guest: QemuGuest, command: str, deadline: Deadline) -> None:
    said = guest.qmp.monitor(command, deadline)
    if said:
        raise Failed(f"{command}: {said.strip()}")


def _next(guest: Guest, deadline: Deadline) -> int:
    return int(guest.console.wait_for(_COUNT, deadline)[1])


def _count_to(guest: Guest, number: int, deadline: Deadline) -> None:
    while _next(guest, deadline) < number:
        pass
