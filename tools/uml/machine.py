"""Boot user-mode Linux for one command and bring back what it printed and how it ended."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.uml.job import STDERR, STDOUT, Job, load_status

KERNEL = "linux.uml"
_ROOT = Path(__file__).resolve().parents[2]
_MEMORY = "1G"


def hindrance() -> str:
    """Why user-mode Linux cannot boot here; empty if it can."""
    if shutil.which(KERNEL) is None:
        return "user-mode-linux is not installed"
    if " amx_tile" in Path("/proc/cpuinfo").read_text():
        return "user-mode-linux has no room for the registers of AMX"
    return ""


class MachineError(Exception):
    """The machine did not come to the end of its job; carries its console."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the command ended: a negative status is a signal's number."""

    status: int
    stdout: bytes
    stderr: bytes


def run(
    argv: list[str], *, timeout_s: float, environment: Mapping[str, str] = os.environ
) -> Outcome:
    """Run `argv` as root in the machine, in the current directory.

    MachineError if the machine is not down again after `timeout_s` seconds, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="kvmshim-uml-") as name:
        directory = Path(name)
        Job(argv, os.getcwd(), dict(environment)).save(directory)
        console = _boot(directory, timeout_s)
        status = load_status(directory)
        stdout, stderr = (_read(directory / stream) for stream in (STDOUT, STDERR))
        if status is None:
            parts = (console, stdout, stderr)
            raise MachineError("\n".join(part.decode(errors="replace") for part in parts))
        return Outcome(status, stdout, stderr)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _boot(directory: Path, timeout_s: float) -> bytes:
    # What stands after "--" is for init, and the kernel splits it at blanks.
    command = [
        KERNEL,
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        "rw",
        f"mem={_MEMORY}",
        "con=null",
        "con0=null,fd:1",
        f"init={sys.executable}",
        f"PYTHONPATH={_ROOT}",
        "PYTHONDONTWRITEBYTECODE=1",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "--",
        "-m",
        "tools.uml.init",
        str(directory),
    ]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as machine:
        try:
            return machine.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            os.killpg(machine.pid, signal.SIGKILL)
            console = machine.communicate()[0]
            return console + b"\nthe machine did not end in time"
