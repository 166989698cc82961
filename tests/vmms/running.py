"""VMMs below a `kvmshim run` of their own, and what may be left of them."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import programs
from tests.cli.environment import COVERED, KVMSHIM, inside
from tests.leftovers import (
    all_pids,
    memfds_of,
    memfds_of_all,
    processes_of_session,
    stat_fields,
    wait_until,
)
from tests.server import ROOT


@contextmanager
def running(
    command: Sequence[str | Path], *, before: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """`kvmshim run` with a VMM, in a session of its own, below the command `before`; killed with
    all that is left of it."""
    process = subprocess.Popen(
        inside(COVERED, [*before, *KVMSHIM, "run", "--", *command]),
        cwd=ROOT,
        env=programs.ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    )
    try:
        yield process
    finally:
        for pid in processes_of_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def vmm_of(process: subprocess.Popen[bytes], program: Path) -> int | None:
    """The VMM's process, if it has begun and not ended."""
    for pid in all_pids():
        fields = stat_fields(pid)
        if fields and int(fields[3]) == process.pid and fields[0] not in "ZX":
            try:
                executed = os.readlink(f"/proc/{pid}/exe")
            except FileNotFoundError:
                continue
            if executed == str(program):
                return pid
    return None


def memory_of(process: subprocess.Popen[bytes]) -> set[int]:
    """Inode numbers of the memfds that it and its children have."""
    return set().union(*(memfds_of(pid) for pid in processes_of_session(process.pid)))


def check_nothing_is_left(process: subprocess.Popen[bytes], memory: set[int]) -> None:
    """Neither processes nor memory."""
    wait_until(lambda: not processes_of_session(process.pid))
    wait_until(lambda: memory.isdisjoint(memfds_of_all()))
