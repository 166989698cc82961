"""`kvmshim fs`: read by other processes than the one that serves, of live VMs.

Every look at the mount is a program's, under a deadline: a process that waits for a file which it
has to serve itself could not be ended.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.deadline import patient
from tests.leftovers import mounts_below
from tests.observe.conftest import Client, client_of, kvmshim, wait_until
from tests.server import ROOT, Server

pytest.importorskip("pyfuse3", reason="fs needs pyfuse3")
pytestmark = [pytest.mark.usefixtures("guarded"), pytest.mark.slow]

of = pytest.mark.parametrize
LIMIT: Final = patient(20)
"""Seconds."""


class Mounted:
    """A `kvmshim fs` on a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kvmshim", "fs", str(directory)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.said = self.process.stderr.readline()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A program, in the mounted directory."""
        return subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, check=False, timeout=LIMIT
        )

    def out(self, *command: str) -> str:
        """What a program that succeeds prints."""
        result = self.run(*command)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def end(self) -> int:
        """Ends it as a terminal does; its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=LIMIT)


@pytest.fixture
def mounted(daemon: Server, tmp_path: Path, guarded: None) -> Iterator[Mounted]:  # noqa: ARG001
    """The tree, mounted."""
    directory = tmp_path / "mnt"
    directory.mkdir()
    mounted = Mounted(directory)
    assert "VMs are in" in mounted.said
    yield mounted
    assert mounted.end() == 0
    assert mounts_below(tmp_path) == []


@of("client", ["halt"], indirect=True)
def test_the_tree_has_what_one_expects(client: Client, mounted: Mounted) -> None:
    vm = f"vms/{client.pid}-0"
    assert mounted.out("ls").split() == ["vms"]
    assert f"{client.pid}-0" in mounted.out("ls", "vms").split()
    found = {"command", "exits", "irqchip", "memory", "slots", "vcpus"}
    assert set(mounted.out("ls", vm).split()) == found
    assert mounted.out("ls", f"{vm}/vcpus").split() == ["0", "1"]
    of_vcpu = {"exits", "instructions", "lapic", "regs", "state"}
    assert set(mounted.out("ls", f"{vm}/vcpus/1").split()) == of_vcpu


@of("client", ["halt"], indirect=True)
def test_files_say_what_is_so(client: Client, mounted: Mounted) -> None:
    wait_until(client, lambda vcpus: vcpus[0]["state"]["is"] == "halted")
    vm = f"vms/{client.pid}-0"
    assert mounted.out("cat", f"{vm}/vcpus/0/state") == "halted\n"
    assert "RIP=" in mounted.out("cat", f"{vm}/vcpus/0/regs")
    assert "io 1\n" in mounted.out("cat", f"{vm}/vcpus/0/exits")
    assert int(mounted.out("cat", f"{vm}/vcpus/0/instructions")) > 0
    assert "IRR           -\n" in mounted.out("cat", f"{vm}/vcpus/0/lapic")
    assert "pages 128\n" in mounted.out("cat", f"{vm}/memory")
    assert "0x80000" in mounted.out("cat", f"{vm}/slots")
    irqchip = mounted.out("cat", f"{vm}/irqchip")
    assert irqchip.startswith("kind kernel\npit true\n")
    assert "ioapic redirtbl 23 0x10000\n" in irqchip


@of("client", ["loop"], indirect=True)
def test_each_open_is_a_new_look(client: Client, mounted: Mounted) -> None:
    path = f"vms/{client.pid}-0/vcpus/0/instructions"
    first, second = (int(text) for text in mounted.out("cat", path, path).split())
    assert second > first


@of("client", ["loop"], indirect=True)
def test_the_whole_tree_can_be_read(client: Client, mounted: Mounted) -> None:
    text = mounted.out("grep", "-r", "", "vms")
    assert f"vms/{client.pid}-0/vcpus/0/state:running" in text


@of("client", ["read"], indirect=True)
@of("command", ["echo x > vms/{}-0/memory", "rm vms/{}-0/memory", "mkdir vms/x", "ln -s x y"])
def test_nothing_can_be_changed(client: Client, mounted: Mounted, command: str) -> None:
    result = mounted.run("sh", "-c", command.format(client.pid))
    assert result.returncode != 0
    assert "Read-only file system" in result.stderr


@of("path", ["x", "vms/1-0", "vms/1-0/vcpus/0/regs", "vms/x/memory", "vms/\\377"])
def test_what_is_not_there_is_not_found(mounted: Mounted, path: str) -> None:
    result = mounted.run("cat", path)
    assert "No such file" in result.stderr


def test_vms_that_end_are_gone_and_open_files_stay(daemon: Server, mounted: Mounted) -> None:
    with client_of(daemon.path, "loop") as client:
        path = f"vms/{client.pid}-0/vcpus/0/regs"
        script = f"exec 3<{path}; echo open; read x; cat <&3"
        reader = subprocess.Popen(
            ["sh", "-c", script],
            cwd=mounted.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
    while mounted.run("ls", f"vms/{client.pid}-0").returncode == 0:
        pass
    text, _ = reader.communicate("\n")
    assert "RIP=" in text


def test_unmounting_from_outside_ends_it(daemon: Server, tmp_path: Path) -> None:
    assert daemon.process.poll() is None
    mounted = Mounted(tmp_path)
    subprocess.run(["umount", tmp_path], check=True)
    assert mounted.process.wait(timeout=LIMIT) == 0


def test_a_killed_one_leaves_nothing_that_hangs(daemon: Server, tmp_path: Path) -> None:
    assert daemon.process.poll() is None
    mounted = Mounted(tmp_path)
    try:
        mounted.process.kill()
        mounted.process.wait(timeout=LIMIT)
        looked = subprocess.run(["ls", tmp_path], capture_output=True, check=False, timeout=LIMIT)
        assert looked.returncode != 0
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.usefixtures("daemon")
def test_a_directory_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = kvmshim("fs", str(tmp_path))
    assert result.returncode == 1
    assert "not empty" in result.stderr


@pytest.mark.usefixtures("daemon")
def test_where_sockets_are_is_refused(control_directory: Path) -> None:
    for path in (control_directory, control_directory.parent, Path("/")):
        result = kvmshim("fs", str(path))
        assert result.returncode == 1
        assert "sockets" in result.stderr


@pytest.mark.usefixtures("daemon")
def test_a_place_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    result = kvmshim("fs", str(tmp_path / "missing"))
    assert result.returncode == 1
    assert "No such file" in result.stderr
