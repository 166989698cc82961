"""`kvmshim run`: what its command sees when it executes the CPUID instruction itself."""

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import programs
from tests.cli.environment import (
    COVERED,
    KVMSHIM,
    inside,
    kvmshim,
    kvmshim_as_user,
)
from tests.ordinary_user import needs_user_namespaces
from tests.server import ROOT, public_directory

pytestmark = [pytest.mark.usefixtures("guarded", "bare_host"), pytest.mark.slow]

SOURCE = Path(__file__).with_name("cpuid_probe.c")


@dataclass(frozen=True)
class Probes:
    """cpuid_probe.c, compiled."""

    dynamic: Path
    static: Path
    library: Path


@pytest.fixture(scope="session")
def probes() -> Iterator[Probes]:
    with public_directory() as directory:
        built = Probes(directory / "dynamic", directory / "static", directory / "library.so")
        gcc: list[str | Path] = ["gcc", "-O2", "-Wall", "-Werror", SOURCE, "-pthread"]
        subprocess.run([*gcc, "-o", built.dynamic], check=True)
        subprocess.run([*gcc, "-static", "-Wno-error", "-o", built.static], check=True)
        subprocess.run([*gcc, "-DLIBRARY", "-shared", "-fPIC", "-o", built.library], check=True)
        yield built


@pytest.fixture
def bare_host(probes: Probes) -> None:
    """Skips where the host's CPUID shows virtualization by itself."""
    result = subprocess.run([probes.dynamic, "plain"], capture_output=True, text=True, check=True)
    if result.stdout != "0\n":
        pytest.skip("the host's processor has virtualization, nothing is emulated")


def printed(*command: str | Path, status: int = 0) -> list[int]:
    """The numbers that a command of `kvmshim run` printed."""
    result = kvmshim("run", "--", *command)
    assert (result.returncode, result.stderr) == (status, "")
    return [int(word) for word in result.stdout.split()]


def each(probes: Probes) -> list[Path]:
    return [probes.dynamic, probes.static]


def test_program_sees_virtualization(probes: Probes) -> None:
    assert [printed(it, "plain") for it in each(probes)] == [[1], [1]]


def test_host_cpuid_is_shown_on_request(probes: Probes) -> None:
    result = kvmshim("run", "--host-cpuid", "--", probes.dynamic, "plain")
    assert (result.returncode, result.stdout) == (0, "0\n")


@needs_user_namespaces
def test_ordinary_users_program_sees_virtualization(probes: Probes) -> None:
    result = kvmshim_as_user("run", "--", probes.dynamic, "forks")
    assert (result.returncode, result.stdout.split()) == (0, ["1"] * 4), result.stderr


def test_children_and_grandchildren_see_it(probes: Probes) -> None:
    assert [printed(it, "forks") for it in each(probes)] == [[1] * 4] * 2


def test_all_threads_see_it(probes: Probes) -> None:
    assert [printed(it, "threads") for it in each(probes)] == [[1] * 4] * 2


def test_library_loaded_at_run_time_sees_it_each_time(probes: Probes) -> None:
    assert printed(probes.dynamic, "library", probes.library) == [1, 1]


@pytest.mark.parametrize("mode", ["executes", "thread executes"])
def test_executed_program_sees_it(probes: Probes, mode: str) -> None:
    assert set(printed(probes.dynamic, mode, probes.static)) == {1}
    assert set(printed(probes.static, mode, probes.dynamic)) == {1}


def test_shell_and_its_commands_see_it(probes: Probes) -> None:
    script = '"$1" plain; "$2" plain & wait; "$1" plain | cat; exec "$2" plain'
    assert printed("sh", "-c", script, "sh", probes.dynamic, probes.static) == [1] * 4


def test_own_sigtrap_handler_sees_its_own_traps_only(probes: Probes) -> None:
    assert [printed(it, "traps") for it in each(probes)] == [[1, 1]] * 2


def test_thread_with_all_signals_blocked_keeps_its_mask(probes: Probes) -> None:
    assert printed(probes.dynamic, "blocked") == [1]


def test_bytes_that_look_like_it_are_left_alone(probes: Probes) -> None:
    assert [printed(it, "look-alikes") for it in each(probes)] == [[1], [1]]


def test_ignored_signal_interrupts_no_wait(probes: Probes) -> None:
    assert printed(probes.dynamic, "ignored") == [1]


def test_stopped_child_is_stopped_and_goes_on(probes: Probes) -> None:
    assert printed(probes.dynamic, "stops") == [1]


def test_breakpoint_of_the_programs_own_ends_it(probes: Probes) -> None:
    assert printed(probes.dynamic, "ends") == [1]


def test_clients_threads_see_it_while_machines_are_made(probes: Probes) -> None:
    assert [printed(it, "machines") for it in each(probes)] == [[1], [1]]


@needs_user_namespaces
def test_ordinary_users_machines_are_made_meanwhile(probes: Probes) -> None:
    result = kvmshim_as_user("run", "--", probes.dynamic, "machines")
    assert (result.returncode, result.stdout) == (0, "1\n"), result.stderr


def test_program_that_outlives_kvmshim_goes_on_with_the_hosts(probes: Probes) -> None:
    assert printed(probes.dynamic, "survives", probes.dynamic) == [1, 0, 0]


def test_command_may_trace_itself_only_with_the_hosts_cpuid(probes: Probes) -> None:
    assert printed(probes.dynamic, "traces") == [0]
    assert kvmshim("run", "--host-cpuid", "--", probes.dynamic, "traces").stdout == "1\n"


def test_killed_kvmshim_takes_its_command_with_it(probes: Probes) -> None:
    command = inside(COVERED, [*KVMSHIM, "run", "--", probes.dynamic, "waits"])
    with subprocess.Popen(
        command, cwd=ROOT, env=programs.ENVIRONMENT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        process.kill()
        assert process.stdout.read() == b""  # the last writer is gone
    assert process.returncode == -signal.SIGKILL


def test_command_that_stops_goes_on_when_it_is_continued(probes: Probes) -> None:
    script = """
while kill -CONT $$; do :; done 2>/dev/null &
kill -STOP $$
"$1" plain
exit 6
"""
    assert printed("sh", "-c", script, "sh", probes.dynamic, status=6) == [1]
