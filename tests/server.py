"""A `kvmshim serve --fuse PATH` of a test, in a session of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.deadline import deadline
from tests.leftovers import mounts_below, processes_of_session

ROOT: Final = Path(__file__).parents[1]
START_SECONDS: Final = 30
STOP_SECONDS: Final = 30


class ServerError(Exception):
    """The server did not come up; carries what it said."""


@contextmanager
def public_directory() -> Iterator[Path]:
    """An empty directory that every user may enter, unlike those of pytest."""
    directory = Path(tempfile.mkdtemp(prefix="kvmshim-test-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


class Server:
    """Serves PATH = `directory`/kvm from construction to `stop` or `kill`. `variables` are added to
    its environment."""

    def __init__(self, directory: Path, *options: str, **variables: str) -> None:
        self.directory = directory
        self.path = directory / "kvm"
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (lives as long as the server)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kvmshim", "serve", "--fuse", str(self.path), *options],
            cwd=ROOT,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            start_new_session=True,
        )
        try:
            with deadline(START_SECONDS):
                self.wait_ready()
        except BaseException:
            self.process.kill()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self) -> None:
        """Returns with the ready line."""
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise ServerError(f"status {self.process.wait()}: {self.said()}")

    def said(self) -> str:
        """What it wrote to stderr until now."""
        self.errors.seek(0)
        return self.errors.read()

    def stop(self) -> int:
        """Ends it as an administrator does, if it has not ended; the exit status."""
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """Ends it without any chance to tidy up; `wait` collects it."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        with deadline(STOP_SECONDS):
            status = self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def leftovers(self) -> list[object]:
        """Processes, mounts and files of this server that are there now."""
        return [
            *processes_of_session(self.pid),
            *mounts_below(self.directory),
            *self.directory.iterdir(),
        ]


@contextmanager
def serving_in(directory: Path, *options: str, **variables: str) -> Iterator[Server]:
    """A server that is stopped at the end, and killed with its helpers if it does not obey."""
    server = Server(directory, *options, **variables)
    with ExitStack() as cleanup:
        cleanup.callback(lambda: sys.stderr.write(server.said()))
        cleanup.callback(kill_session, server.pid)
        cleanup.callback(server.stop)
        yield server


def kill_session(session: int) -> None:
    """Kills what a server left running."""
    for pid in processes_of_session(session):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def serving(*options: str, **variables: str) -> Iterator[Server]:
    """The same in a directory of its own."""
    with public_directory() as directory, serving_in(directory, *options, **variables) as server:
        yield server
