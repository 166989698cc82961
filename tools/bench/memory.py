"""How much memory a server has beside that of its guest: proc(5), /proc/PID/smaps."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kvmshim.client.ram_file import NAME
from tests.leftovers import processes_of_session

_GUEST_MEMORY: Final = (f"/memfd:{NAME}", f"/{NAME}")
GOAL_MIB: Final = 64


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    resident: int
    """RSS: a page that is mapped twice counts twice."""
    share: int
    """PSS: such a page counts once, and one that others have too only in part."""

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.resident + other.resident, self.share + other.share)


def above_guest_memory(session: int, vmm: str) -> Memory:
    """Of the processes of a `kvmshim run`, without the VMM whose executable has this name, and
    without what a client has as its guest's memory."""
    servers = [pid for pid in processes_of_session(session) if _executable(pid) != vmm]
    return sum((counted(_lines(pid)) for pid in servers), Memory(0, 0))


def counted(smaps: Iterable[str]) -> Memory:
    """By the lines of an smaps."""
    total = {"Rss:": 0, "Pss:": 0}
    counts = True
    for line in smaps:
        words = line.split()
        if not words[0].endswith(":"):
            counts = len(words) < 6 or not words[5].startswith(_GUEST_MEMORY)
        elif counts and words[0] in total:
            total[words[0]] += int(words[1]) << 10
    return Memory(total["Rss:"], total["Pss:"])


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
