"""Where rows run: this machine, a guest on kvmshim, a guest on QEMU's TCG.

Both guests have the same QEMU, machine, memory, kernel and initramfs, one processor, and the best
model of it that their accelerator has.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tools.bench import rows
from tools.bench.priority import favour
from tools.bench.rows import Sample
from tools.guests.console import Deadline, Failed
from tools.guests.vmm.qemu import QEMU, Arguments, QemuGuest

_MEGABYTES: Final = 512
_SECONDS: Final = 300
"""After which a start or a row is given up."""
_ACCELERATED: Final = {
    "kvmshim": ("-accel", "kvm", "-cpu", "host"),
    "tcg": ("-accel", "tcg", "-cpu", "max"),
}
GUESTS: Final = tuple(_ACCELERATED)
# Becomes the command, once it has said when: the clock is that of all processes.
_SAYS_WHEN: Final = (
    "import os, sys, time;"
    "print('@@ starts', time.monotonic_ns(), flush=True);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Machine(Protocol):
    """It does a row as often as it is told."""

    def run(self, name: str, count: int) -> Sample:
        """Failed."""


class Up(Machine, Protocol):
    """A guest that is up."""

    @property
    def boot_nanoseconds(self) -> int:
        """From the VMM's first instruction to the first shell."""

    def close(self) -> None:
        """Ends the guest."""


class Starter(Protocol):
    """Who starts guests."""

    def start(self, accelerator: str, *, quiet: bool = False) -> Up:
        """One of GUESTS, whose kernel says on the console what it does, or not. Failed."""


class Native:
    """This machine."""

    def __init__(self, program: Path, busybox: Path, scratch: Path) -> None:
        """`scratch` is an empty folder, and the working directory of the program."""
        (scratch / "busybox").symlink_to(busybox)
        self._program = program
        self._scratch = scratch

    def run(self, name: str, count: int) -> Sample:
        """See `Machine`."""
        try:
            done = subprocess.run(
                [self._program, name, str(count)],
                cwd=self._scratch,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=_SECONDS,
            )
            return rows.sample(name, done.stdout)
        except (subprocess.SubprocessError, ValueError) as error:
            raise Failed(f"natively: {error}") from None


@dataclass(frozen=True)
class Guests:
    """What guests are started from, and the folder that their consoles are written to."""

    kernel: Path
    initramfs: Path
    logs: Path
    niceness: int = 0
    """Of their sessions."""

    def start(self, accelerator: str, *, quiet: bool = False) -> "Booted":
        """See `Starter`."""
        return Booted(self, accelerator, quiet=quiet)


class Booted:
    """A Linux guest with the programs in it; see `Up`."""

    def __init__(self, files: Guests, accelerator: str, *, quiet: bool) -> None:
        """Failed. `accelerator` is one of GUESTS."""
        self._accelerator = accelerator
        words = "console=ttyS0 panic=-1 quiet" if quiet else "console=ttyS0 panic=-1"
        self._folder = tempfile.TemporaryDirectory(prefix="kvmshim-bench-")
        command: Arguments = [
            *(sys.executable, "-I", "-S", "-c", _SAYS_WHEN),
            *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"),
            *("-no-reboot", "-machine", "pc", "-smp", "1", "-m", str(_MEGABYTES)),
            *_ACCELERATED[accelerator],
            *("-kernel", files.kernel, "-initrd", files.initramfs, "-append", words),
        ]
        try:
            self.guest = QemuGuest(
                command,
                files.logs / f"{accelerator}.txt",
                Path(self._folder.name),
                on_kvmshim=accelerator == "kvmshim",
            )
        except BaseException:
            self._folder.cleanup()
            raise
        favour(self.guest.process.pid, files.niceness)
        try:
            self.boot_nanoseconds = self._wait_until_up()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See `Up`."""
        self.guest.close()
        self._folder.cleanup()

    def run(self, name: str, count: int) -> Sample:
        """See `Machine`."""
        self.guest.console.type(f"{name} {count}\n".encode())
        deadline = Deadline(_SECONDS)
        answer = self.guest.console.wait_for(rb"@@ [^\r\n]*\r?\n", deadline)[0].decode()
        try:
            return rows.sample(name, answer)
        except ValueError as error:
            raise Failed(f"on {self._accelerator}: {error}") from None

    def _wait_until_up(self) -> int:
        deadline = Deadline(_SECONDS)
        begin = int(self.guest.console.wait_for(rb"@@ starts (\d+)\n", deadline)[1])
        self.guest.console.wait_for(rb"@@ up\r?\n", deadline)
        return time.monotonic_ns() - begin
