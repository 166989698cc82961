"""gdb stops Linux at a system call, by an opcode and by a debug register, and steps through it."""

import re
import subprocess
from typing import Final

from tools.guests.catalogue import Case
from tools.guests.console import Deadline, Failed
from tools.guests.guest import Guest
from tools.guests.scenario.boot import pass_checks, wait_until_up
from tools.guests.vmm.qemu import QemuGuest

_STEPS: Final = 6
_LONGEST_INSTRUCTION: Final = 15


def play(guest: Guest, case: Case, deadline: Deadline) -> float:
    """See `guest.Scenario`."""
    assert isinstance(guest, QemuGuest)
    seconds = wait_until_up(guest, deadline)
    address = int(guest.console.wait_for(rb"@@ called ([0-9a-f]{16})\r?\n", deadline)[1], 16)
    places = _debug(guest, address, deadline)
    stepped = places[1 : 1 + _STEPS]
    if len(places) != _STEPS + 2 or places[0] != address or places[-1] != address:
        raise Failed(f"gdb stopped at {[hex(place) for place in places]}, not at {address:#x}")
    steps = zip([address, *stepped], stepped, strict=False)
    if any(not 0 < after - before <= _LONGEST_INSTRUCTION for before, after in steps):
        raise Failed(f"gdb stepped to {[hex(place) for place in stepped]} from {address:#x}")
    guest.console.type(b"enough\n")
    pass_checks(guest, case, deadline)
    return seconds


def _debug(guest: QemuGuest, address: int, deadline: Deadline) -> list[int]:
    """Where RIP was at each stop."""
    show = 'printf "stopped at %#lx\\n", $rip'
    commands = [
        "set architecture i386:x86-64",
        f"target remote {guest.gdb_socket}",
        *(f"break *{address:#x}", "continue", show, "delete"),
        *(["stepi", show] * _STEPS),
        *(f"hbreak *{address:#x}", "continue", show, "delete", "detach"),
    ]
    command = ["gdb", "-nx", "-batch"]
    for line in commands:
        command += ["-ex", line]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=deadline.left(),
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise Failed(f"gdb has not ended: {expired.output!r}") from None
    found = re.findall(r"^stopped at (0x[0-9a-f]+)$", result.stdout, re.MULTILINE)
    if not found:
        raise Failed(f"gdb: {result.stdout.strip()}")
    return [int(place, 16) for place in found]
