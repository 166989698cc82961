"""One guest: a VMM below a `kvmshim run` of its own, and its console.

What opens /dev/kvm there has been asked whether it is kvmshim's, so that nothing else can pass.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, Self

from tools.guests.catalogue import Case
from tools.guests.console import Console, Deadline, Failed
from tools.guests.files import Files
from tools.selftests import guard

_KVMSHIM: Final = Path(sys.executable).with_name("kvmshim")
_TIED: Final = ("setpriv", "--pdeathsig", "KILL", "--")
"""What follows is killed when its parent ends."""


class Guest:
    """A VMM at work. Nothing of it lives on after `close`, or when the caller is killed."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        on_kvmshim: bool = True,
        options: Sequence[str] = (),
    ) -> None:
        """The command's standard input and output are the guest's serial line; `log` gets it.

        `options` are kvmshim's. Without kvmshim, what answers at /dev/kvm is what the machine has.
        """
        asked = (sys.executable, "-I", "-S", guard.__file__)
        run: tuple[str | Path, ...] = (_KVMSHIM, "run", *options, "--", *_TIED, *asked)
        below = run if on_kvmshim else ()
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*_TIED, *below, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.console = Console(self.process, log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the VMM and its kvmshim, if they have not ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.console.close()

    def wait_for_power_off(self, deadline: Deadline) -> None:
        """Until the guest has switched itself off; here, until the VMM has ended well. Failed."""
        self.console.wait_for_end(deadline)
        status = self.process.wait(deadline.left())
        if status:
            raise Failed(f"the VMM's exit status is {status}")

    def exits(self) -> int | None:
        """How often the guest has left for the VMM; None where nobody knows."""
        return None


class Vmm(Protocol):
    """A module of `tools.guests.vmm`."""

    def missing(self, case: Case) -> str:
        """Why it cannot be run here; empty if it can."""

    def start(self, case: Case, files: Files, scratch: Path, log: Path) -> Guest:
        """Starts a guest, whose own files are below `scratch`. Failed."""


class Scenario(Protocol):
    """A module of `tools.guests.scenario`."""

    def play(self, guest: Guest, case: Case, deadline: Deadline) -> float:
        """Lets it happen; the seconds from the VMM's start until the guest was up. Failed."""
