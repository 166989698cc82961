"""The client to be killed, and the random moments at which something is."""

import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Final

from tests import programs

MOMENTS: Final = range(int(os.environ.get("KVMSHIM_KILLS", "20")))

STEPS_OF_A_FEW_LIVES: Final = 250
SPINS_OF_A_STEP: Final = 3000

DEVICE_GONE: Final = 3
"""Exit status of a client whose call failed."""


class Churn:
    """`tests/clients/churn` at work on a device: VMs are made, run and given up without end."""

    def __init__(self, device: Path, moment: int) -> None:
        self.random = random.Random(moment)
        self.process = subprocess.Popen(
            [programs.BINARIES / f"churn{self.random.choice(programs.LINKAGES)}", device],
            env=programs.ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.live_until_moment()

    @property
    def pid(self) -> int:
        return self.process.pid

    def live_until_moment(self) -> None:
        """Returns after a random number of steps, somewhere inside the next one."""
        assert self.process.stdout is not None
        self.process.stdout.read(self.random.randrange(1, STEPS_OF_A_FEW_LIVES))
        for _ in range(self.random.randrange(SPINS_OF_A_STEP)):
            pass

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> tuple[int, str]:
        """Waits until it has ended, by itself if not killed; exit status and what it said."""
        _, said = self.process.communicate()
        return self.process.returncode, said.decode()
