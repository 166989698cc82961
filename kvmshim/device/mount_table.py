"""The mounts of this mount namespace as `/proc/self/mountinfo` lists them (proc(5))."""

import os
import re
from dataclasses import dataclass

MOUNTINFO = "/proc/self/mountinfo"
KVMSHIM_TYPE = "fuse.kvmshim"


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount."""

    device: str
    """MAJOR:MINOR of the file system."""
    path: str
    kind: str


def parse(text: str) -> list[Mount]:
    """The mounts in the order of the table."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        mounts.append(Mount(fields[2], _unescape(fields[4]), after.split(" ")[0]))
    return mounts


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def all_mounts() -> list[Mount]:
    """The mounts that this process can see."""
    with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as table:
        return parse(table.read())


def top_mount(path: str) -> Mount | None:
    """The mount that covers `path` itself, the topmost if there are several."""
    path = os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)
    mounts = [mount for mount in all_mounts() if mount.path == os.path.normpath(path)]
    return mounts[-1] if mounts else None
