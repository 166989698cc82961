"""What befalls a VMM: killed while it boots, stopped and continued, traced, started twice.

The VMMs are the programs of tests/clients whose guests boot as kernels do. Each runs below a
`kvmshim run` of its own, of which nothing may be left.
"""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests import programs
from tests.deadline import deadline
from tests.leftovers import stat_fields, wait_until
from tests.server import ROOT
from tests.vmms.running import check_nothing_is_left, memory_of, running, vmm_of

VMMS: Final = ["firecracker", "cloud_hypervisor"]
MOMENTS: Final = range(int(os.environ.get("KVMSHIM_BOOT_KILLS", "6")))
OUTPUT_BYTES: Final = 100
"""Of a VMM, at least; a moment is a number of them and a number of steps of ours behind it."""
STEPS: Final = 20_000

pytestmark = [pytest.mark.usefixtures("guarded", "clients"), pytest.mark.slow]


def program(name: str) -> Path:
    return programs.BINARIES / name


def live_until(process: subprocess.Popen[bytes], moment: int) -> None:
    """Returns somewhere in the boot."""
    chance = random.Random(moment)
    assert process.stdout is not None
    process.stdout.read(chance.randrange(OUTPUT_BYTES))
    for _ in range(chance.randrange(STEPS)):
        pass


@pytest.mark.parametrize("name", VMMS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_vmm_leaves_nothing(name: str, moment: int) -> None:
    with running([program(name)]) as process:
        live_until(process, moment)
        memory = memory_of(process)
        pid = vmm_of(process, program(name))
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == (0 if pid is None else -signal.SIGKILL)
        check_nothing_is_left(process, memory)


@pytest.mark.parametrize("name", VMMS)
@pytest.mark.parametrize("moment", MOMENTS[:3])
def test_killed_kvmshim_leaves_nothing(name: str, moment: int) -> None:
    with running([program(name)]) as process:
        live_until(process, moment)
        memory = memory_of(process)
        process.kill()
        process.communicate()
        check_nothing_is_left(process, memory)


@pytest.mark.parametrize("name", VMMS)
@pytest.mark.parametrize("moment", MOMENTS[:3])
def test_stopped_vmm_goes_on(name: str, moment: int) -> None:
    with running([program(name)]) as process:
        assert process.stdout is not None
        said = process.stdout.read(1 + moment * OUTPUT_BYTES // 3)
        pid = vmm_of(process, program(name))
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: stat_fields(pid)[0] in "Tt")
        os.kill(pid, signal.SIGCONT)
        rest, errors = process.communicate()
        assert process.returncode == 0, errors
        assert (said + rest).decode() == programs.expected_output(name)


@pytest.mark.parametrize("name", VMMS)
def test_two_at_once_do_not_meet(name: str) -> None:
    with running([program(name)]) as one, running([program(name)]) as other:
        for process in (one, other):
            said, errors = process.communicate()
            assert process.returncode == 0, errors
            assert said.decode() == programs.expected_output(name)


@pytest.mark.parametrize("name", VMMS)
def test_strace_follows_kvmshim_and_all_works(name: str) -> None:
    with running([program(name)], before=["strace", "-f", "-o", "/dev/null"]) as process:
        said, errors = process.communicate()
        assert (process.returncode, said.decode()) == (0, programs.expected_output(name)), errors
        check_nothing_is_left(process, set())


def test_child_of_an_untraced_process_is_an_ordinary_one() -> None:
    code = (
        "from kvmshim.device.fork_ffi import fork_for_us as f\nimport os\nif f() == 0: os._exit(3)"
    )
    code += "\nprint(os.waitstatus_to_exitcode(os.wait()[1]))"
    for before in ([], ["strace", "-f", "-o", "/dev/null"]):
        command = [*before, sys.executable, "-c", code]
        with deadline(30):
            assert subprocess.check_output(command, cwd=ROOT, text=True) == "3\n"
