"""How much memory a server has beside that of its guest: proc(5), /proc/PID/smaps."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kvmshim.client.adopt import MEMFD_NAME
from tests.leftovers import processes_of_session

_GUEST_MEMORY: Final = f"/memfd:{MEMFD_NAME}"
GOAL_MIB: Final = 64


def above_guest_memory(session: int, vmm: str) -> int:
    """Bytes that the processes of a `kvmshim run` have resident, without the VMM whose executable
    has this name, and without what a client has as its guest's memory."""
    servers = [pid for pid in processes_of_session(session) if _executable(pid) != vmm]
    return sum(resident(_lines(pid)) for pid in servers)


def resident(smaps: Iterable[str]) -> int:
    """Bytes, by the lines of an smaps."""
    total = 0
    counts = True
    for line in smaps:
        words = line.split()
        if words[0] == "Rss:" and counts:
            total += int(words[1]) << 10
        elif not words[0].endswith(":"):
            counts = len(words) < 6 or not words[5].startswith(_GUEST_MEMORY)
    return total


def _executable(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""


def _lines(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return []
