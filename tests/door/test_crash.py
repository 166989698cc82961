"""A server that is killed: its clients get errors, and it leaves nothing for long."""

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.door.doors import StandIn, client_argv, environment, run_client
from tests.leftovers import mounts_below, wait_until

pytestmark = pytest.mark.slow

BLOCKED = """
fd = os.open(path, os.O_RDWR)
tell(ready=True)
tell(e=errno_of(fcntl.ioctl, fd, Number.BLOCK), after=errno_of(fcntl.ioctl, fd, Number.ANSWER))
"""


def test_blocked_client_of_a_killed_server_gets_an_error(door: StandIn) -> None:
    helpers = door.children()
    with subprocess.Popen(
        client_argv(BLOCKED, door.path), env=environment(), stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == '{"ready": true}\n'
        wait_until(lambda: is_in_ioctl(client.pid))
        door.signal(signal.SIGKILL)
        assert door.wait() == -signal.SIGKILL
        assert client.stdout.readline() == (
            f'{{"e": {errno.ECONNABORTED}, "after": {errno.ENOTCONN}}}\n'
        )
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in helpers))


def is_in_ioctl(pid: int) -> bool:
    return Path(f"/proc/{pid}/syscall").read_text().startswith("16 ")


def test_janitor_of_a_killed_server_removes_mount_and_placeholder(folder: Path) -> None:
    door = StandIn(folder / "kvm")
    helpers = door.children()
    door.signal(signal.SIGKILL)
    door.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in helpers))
    assert mounts_below(folder) == []
    assert list(folder.iterdir()) == []


def test_next_server_removes_what_server_and_janitor_left(folder: Path) -> None:
    first = StandIn(folder / "kvm")
    helpers = first.children()
    for pid in (*helpers, first.process.pid):
        os.kill(pid, signal.SIGKILL)
    first.wait()
    assert mounts_below(folder) == [str(first.path)]
    second = StandIn(folder / "kvm")
    assert run_client("tell(a=fcntl.ioctl(os.open(path, 2), Number.ANSWER))", second.path) == {
        "a": 12
    }
    assert second.stop() == 0
    assert mounts_below(folder) == []
    assert list(folder.iterdir()) == []


def test_killed_client_leaves_the_server_well(door: StandIn) -> None:
    with subprocess.Popen(
        client_argv("os.kill(os.getpid(), signal.SIGKILL) or os.open(path, 2)", door.path),
        env=environment(),
    ) as client:
        assert client.wait() == -signal.SIGKILL
    assert run_client("tell(a=fcntl.ioctl(os.open(path, 2), Number.ANSWER))", door.path) == {
        "a": 12
    }
