"""tools.guests leaves no VMM behind when it is killed."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.leftovers import processes_of_session, wait_until
from tests.server import ROOT

PROGRAM: Final = """
import sys, threading
from pathlib import Path
from tools.guests.console import Deadline
from tools.guests.guest import Guest

def live():
    guest = Guest(["/bin/sh", "-c", "echo up; exec sleep infinity"], Path(sys.argv[1]))
    guest.console.wait_for(rb"up", Deadline(50))
    print(guest.process.pid, flush=True)
    guest.process.wait()

threading.Thread(target=live).start()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("guarded")
def test_a_killed_tool_takes_its_guests_along(tmp_path: Path) -> None:
    """The guest is no client of KVM: not for want of its device does it end."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as tool:
        assert tool.stdout is not None
        session = int(tool.stdout.readline())
        assert len(processes_of_session(session)) > 1
        tool.send_signal(signal.SIGKILL)
    wait_until(lambda: not processes_of_session(session))
