"""`kvmshim serve`: comes up, tells so, goes without a trace; what it refuses."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import programs
from tests.cli.environment import KVMSHIM, execute, kvmshim
from tests.kvm import System
from tests.leftovers import mounts_below
from tests.ordinary_user import DROP_ROOT, needs_readable_sources
from tests.server import Server, public_directory, serving, serving_in

pytestmark = [pytest.mark.usefixtures("guarded"), pytest.mark.slow]

FAILURE = 125
USAGE = 2


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory to serve in."""
    with public_directory() as directory:
        yield directory


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that the test may end."""
    with serving() as server:
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_it_without_a_trace(server: Server, number: signal.Signals) -> None:
    System(server.path).close()
    os.kill(server.pid, number)
    assert server.wait() == 0, server.said()
    assert server.leftovers() == []


def test_open_clients_do_not_keep_it_from_ending(server: Server) -> None:
    system = System(server.path)
    vcpu = system.create_vm().create_vcpu(0)
    assert server.stop() == 0, server.said()
    assert server.leftovers() == []
    with pytest.raises(OSError, match="ioctl"):
        vcpu.regs()
    system.close()


def test_file_that_was_there_before_is_there_after(directory: Path) -> None:
    (directory / "kvm").write_text("mine")
    with serving_in(directory) as server:
        System(server.path).close()
    assert (directory / "kvm").read_text() == "mine"


def test_device_is_for_root_alone_unless_told(server: Server) -> None:
    status = server.path.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o600)


def test_mode_is_the_one_asked_for() -> None:
    with serving("--mode", "0640") as server:
        assert server.path.stat().st_mode & 0o777 == 0o640


def test_group_may_use_the_device() -> None:
    with serving("--group", "4242") as server:
        status = server.path.stat()
        assert (status.st_gid, status.st_mode & 0o777) == (4242, 0o660)


def test_service_manager_is_notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with serving():
            message = manager.recv(4096)
    assert b"READY=1" in message


def test_program_runs_on_the_served_path(clients: Path, server: Server) -> None:
    result = execute(clients / "demo", server.path)
    assert (result.returncode, result.stdout) == (0, programs.expected_output("demo"))


def test_path_that_is_served_already_is_refused(server: Server) -> None:
    second = kvmshim("serve", "--fuse", server.path)
    System(server.path).close()  # the first one still answers
    assert (second.returncode, second.stdout) == (FAILURE, "")
    assert str(server.path) in second.stderr


def test_missing_directory_is_refused(directory: Path) -> None:
    result = kvmshim("serve", "--fuse", directory / "no" / "kvm")
    assert (result.returncode, result.stdout) == (FAILURE, "")
    assert str(directory / "no") in result.stderr


def test_directory_is_no_place_for_a_device(directory: Path) -> None:
    result = kvmshim("serve", "--fuse", directory)
    assert (result.returncode, result.stdout) == (FAILURE, "")
    assert mounts_below(directory) == []


@needs_readable_sources
def test_ordinary_user_is_told_that_it_needs_root(directory: Path) -> None:
    result = execute(*DROP_ROOT, *KVMSHIM, "serve", "--fuse", directory / "kvm")
    assert (result.returncode, result.stdout) == (FAILURE, "")
    assert list(directory.iterdir()) == []


@pytest.mark.skipif(Path("/dev/cuse").exists(), reason="this machine has CUSE")
def test_missing_cuse_is_named() -> None:
    result = kvmshim("serve", "--cuse", "--name", "kvmshim-test")
    assert (result.returncode, result.stdout) == (FAILURE, "")
    assert "/dev/cuse" in result.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--fuse", "/run/kvmshim-test", "--group", "no-such-group"], "no-such-group"),
        (["--fuse", "/run/kvmshim-test", "--mode", "rw"], "rw"),
        (["--fuse", "/run/kvmshim-test", "--mode", "7777"], "7777"),
        (["--fuse"], "--fuse"),
        (["--fuse", "/run/kvmshim-test", "--cuse"], "--cuse"),
        ([], "--fuse"),
    ],
    ids=["unknown group", "mode of letters", "mode too wide", "no path", "both doors", "no door"],
)
def test_wrong_options_are_named(options: list[str], named: str) -> None:
    result = kvmshim("serve", *options)
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert named in result.stderr
    assert not Path("/run/kvmshim-test").exists()
