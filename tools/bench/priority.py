"""Who is served first: sched(7), "The autogroup feature".

Where the kernel groups processes by session, niceness counts only inside of one; the group has a
niceness of its own.
"""

from pathlib import Path


def favour(pid: int, niceness: int) -> None:
    """Gives the session of a process a niceness, if there are such groups. PermissionError."""
    group = Path(f"/proc/{pid}/autogroup")
    if niceness and group.exists():
        group.write_text(str(niceness))
