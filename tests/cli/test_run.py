"""`kvmshim run`: a command, its output, its end."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import programs
from tests.cli.environment import (
    COVERED,
    IN_CHROOT,
    KVMSHIM,
    WITHOUT_KVM,
    inside,
    kvmshim,
    kvmshim_as_user,
)
from tests.ordinary_user import needs_user_namespaces
from tests.server import ROOT

pytestmark = [pytest.mark.usefixtures("guarded", "clients"), pytest.mark.slow]

WAIT_FOR_TERM = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
print("up", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("linkage", programs.LINKAGES, ids=["dynamic", "static"])
@pytest.mark.parametrize("name", programs.NAMES)
def test_program_runs_as_root(name: str, linkage: str) -> None:
    result = kvmshim("run", "--", programs.BINARIES / f"{name}{linkage}")
    assert (result.returncode, result.stdout) == (0, programs.expected_output(name)), result.stderr


@needs_user_namespaces
@pytest.mark.parametrize("linkage", programs.LINKAGES, ids=["dynamic", "static"])
@pytest.mark.parametrize("name", programs.NAMES)
def test_program_runs_as_an_ordinary_user(name: str, linkage: str) -> None:
    result = kvmshim_as_user("run", "--", programs.BINARIES / f"{name}{linkage}")
    assert (result.returncode, result.stdout) == (0, programs.expected_output(name)), result.stderr


def test_machine_needs_no_kvm_node() -> None:
    result = kvmshim("run", "--", programs.BINARIES / "demo", script=WITHOUT_KVM)
    assert (result.returncode, result.stdout) == (0, programs.expected_output("demo"))


def test_root_directory_need_not_be_a_mount() -> None:
    result = kvmshim("run", "--", programs.BINARIES / "demo", script=IN_CHROOT)
    assert (result.returncode, result.stdout) == (0, programs.expected_output("demo"))


def test_children_of_the_command_see_the_device() -> None:
    result = kvmshim("run", "--", "sh", "-c", f"sh -c {programs.BINARIES / 'demo'}; exit 5")
    assert (result.returncode, result.stdout) == (5, programs.expected_output("demo"))


def test_two_runs_at_once_have_a_device_each() -> None:
    command = inside(COVERED, [*KVMSHIM, "run", "--", programs.BINARIES / "demo"])
    runs = [
        subprocess.Popen(
            command, cwd=ROOT, env=programs.ENVIRONMENT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [run.communicate()[0] for run in runs] == [programs.expected_output("demo")] * 2


@pytest.mark.parametrize("status", [0, 1, 77, 255])
def test_exit_status_is_the_commands(status: int) -> None:
    assert kvmshim("run", "--", "sh", "-c", f"exit {status}").returncode == status


@needs_user_namespaces
def test_exit_status_is_the_commands_for_an_ordinary_user() -> None:
    assert kvmshim_as_user("run", "--", "sh", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGUSR1])
def test_signal_that_ends_the_command_ends_kvmshim(number: signal.Signals) -> None:
    result = kvmshim("run", "--", "sh", "-c", f"kill -{number.value} $$")
    assert result.returncode == -number


def test_signal_sent_to_kvmshim_reaches_the_command() -> None:
    command = inside(COVERED, [*KVMSHIM, "run", "--", sys.executable, "-c", WAIT_FOR_TERM])
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.wait() == 9


def test_standard_input_is_the_commands() -> None:
    assert kvmshim("run", "--", "cat", input="words").stdout == "words"


def test_separator_may_be_left_out() -> None:
    assert kvmshim("run", "echo", "words").stdout == "words\n"


def test_options_behind_the_command_are_the_commands() -> None:
    assert kvmshim("run", "echo", "--help", "-n").stdout == "--help -n\n"


def test_command_sees_no_descriptor_of_kvmshim() -> None:
    result = kvmshim("run", "--", "sh", "-c", "ls /proc/$$/fd")
    assert result.stdout.split() == ["0", "1", "2"]


def test_no_mount_is_left_outside() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    kvmshim("run", "--", "true")
    assert Path("/proc/self/mountinfo").read_text() == before


def test_command_that_is_not_there_is_127() -> None:
    result = kvmshim("run", "--", "/no/such/command")
    assert (result.returncode, result.stdout) == (127, "")
    assert "/no/such/command" in result.stderr


def test_file_that_is_no_command_is_126(tmp_path: Path) -> None:
    assert kvmshim("run", "--", tmp_path).returncode == 126


def test_no_command_is_a_usage_error() -> None:
    result = kvmshim("run")
    assert result.returncode == 2
    assert "usage: kvmshim run" in result.stderr
