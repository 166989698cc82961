"""A daemon with a control directory of its own, and clients in other processes."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kvmshim.control import address
from tests.deadline import deadline, patient
from tests.server import ROOT, Server, serving

Client = subprocess.Popen[str]


@pytest.fixture(scope="package")
def control_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where daemons and commands of these tests meet, out of the way of others."""
    directory = tmp_path_factory.mktemp("control")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(address.VARIABLE, str(directory))
        yield directory


@pytest.fixture(scope="package")
def daemon(control_directory: Path) -> Iterator[Server]:  # noqa: ARG001
    """One that serves."""
    with serving() as server:
        yield server


@contextmanager
def client_of(device: Path, kind: str) -> Iterator[Client]:
    """A client whose guests are where they are to be."""
    command = [sys.executable, "-m", "tests.observe.client", str(device), kind]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with deadline(30):
                assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def client(
    daemon: Server,
    request: pytest.FixtureRequest,
    guarded: None,  # noqa: ARG001
) -> Iterator[Client]:
    """A client of the kind that the test is parametrized with."""
    with client_of(daemon.path, request.param) as process:
        yield process


def kvmshim(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of kvmshim, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "kvmshim", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(30),
    )


def said(*arguments: str) -> str:
    """What a command that succeeds prints."""
    result = kvmshim(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def vcpus_of(client: Client) -> list[dict[str, Any]]:
    """The vCPUs of the client's first VM, as `ps` sees them."""
    vms = json.loads(said("ps", "--json", "--interval", "0.05"))
    return next(vm["vcpus"] for vm in vms if vm["vm"] == f"{client.pid}-0")


def wait_until(client: Client, fits: Callable[[list[dict[str, Any]]], bool]) -> None:
    """Until the vCPUs of the client are so."""
    while not fits(vcpus_of(client)):
        pass
