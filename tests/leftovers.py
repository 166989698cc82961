"""What a kvmshim that ended, or was killed, may have left on the machine."""

import os
from collections.abc import Callable
from pathlib import Path


def wait_until(condition: Callable[[], bool]) -> None:
    """Gives the processor away until the condition holds; to be called within a deadline."""
    while not condition():
        os.sched_yield()


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def processes_of_session(session: int) -> set[int]:
    """Processes of a session, the dead that nobody has waited for yet left out."""
    live = {pid: stat_fields(pid) for pid in all_pids()}
    return {pid for pid, fields in live.items() if fields and alive_in(fields, session)}


def alive_in(fields: list[str], session: int) -> bool:
    state, session_field = fields[0], fields[3]
    return state not in "ZX" and int(session_field) == session


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below `directory` in this mount namespace."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if Path(point).is_relative_to(directory)]


def memfds_of(pid: int) -> set[int]:
    """Inode numbers of the memfds that a process has open or mapped."""
    return open_memfds(pid) | mapped_memfds(pid)


def open_memfds(pid: int) -> set[int]:
    inodes = set()
    for name in listed(f"/proc/{pid}/fd"):
        descriptor = f"/proc/{pid}/fd/{name}"
        try:
            if os.readlink(descriptor).startswith("/memfd:"):
                inodes.add(os.stat(descriptor).st_ino)
        except (FileNotFoundError, PermissionError):
            continue
    return inodes


def mapped_memfds(pid: int) -> set[int]:
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return set()
    fields = [line.split(maxsplit=5) for line in lines]
    return {int(f[4]) for f in fields if len(f) == 6 and f[5].startswith("/memfd:")}


def listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, ProcessLookupError):
        return []


def memfds_of_all() -> set[int]:
    """Inode numbers of the memfds that any process holds."""
    return set().union(*(memfds_of(pid) for pid in all_pids()))
