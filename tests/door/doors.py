"""Stand-in servers and their clients, each a process of its own."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.deadline import deadline, patient

ROOT: Final = Path(__file__).parents[2]
STAND_IN: Final = [sys.executable, "-m", "tests.door.stand_in"]
PUBLIC_PYTHON: Final = "/usr/bin/python3"
"""For other users, who may not reach the interpreter of these tests."""
START_SECONDS: Final = 30
STOP_SECONDS: Final = 30
CLIENT_SECONDS: Final = 30

CLIENT_PREAMBLE: Final = """
import fcntl, json, mmap, os, signal, sys, threading
from tests.door.numbers import *
def errno_of(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return 0
def tell(**facts):
    print(json.dumps(facts), flush=True)
path = sys.argv[1]
"""


def environment(**more: str) -> dict[str, str]:
    """This process's, with the project importable."""
    path = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **more}


def client_argv(script: str, path: Path | str) -> list[str]:
    """A Python client: `script` finds the device at `path` and `tell`s what it saw."""
    return [PUBLIC_PYTHON, "-c", CLIENT_PREAMBLE + script, str(path)]


def run_client(script: str, path: Path | str, **options: Any) -> dict[str, Any]:
    """What the client told."""
    done = subprocess.run(
        client_argv(script, path),
        env=environment(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=patient(CLIENT_SECONDS),
        **options,
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


class StandIn:
    """`serve --fuse PATH`, from its ready line on."""

    def __init__(self, path: Path, *options: str, **variables: str) -> None:
        self.path = path
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (lives as long as the server)
        self.process = subprocess.Popen(
            [*STAND_IN, "serve", "--fuse", str(path), *options],
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        with deadline(START_SECONDS):
            self.ready_line = self.process.stdout.readline()

    def said(self) -> str:
        """What it wrote to stderr until now."""
        return Path(f"/proc/self/fd/{self.errors.fileno()}").read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send it one."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status, negative for a signal."""
        with deadline(STOP_SECONDS):
            status = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status

    def stop(self) -> int:
        """End it as an administrator does, if it is still there."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def children(self) -> list[int]:
        """Its janitor."""
        tasks = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in tasks.read_text().split()]


@contextmanager
def served(path: Path, *options: str, **variables: str) -> Iterator[StandIn]:
    """A stand-in that is stopped in any case."""
    server = StandIn(path, *options, **variables)
    try:
        yield server
    finally:
        server.stop()
