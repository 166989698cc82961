"""Real child processes for the tests of the client side. No /dev/kvm is involved."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmshim.client.client import Client
from tests.server import public_directory
from tests.unit.kvmshim.client import puppet as puppets
from tests.unit.kvmshim.client.puppet import Puppet


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    """One that other users may enter."""
    with public_directory() as path:
        yield path


@pytest.fixture(scope="session")
def program(directory: Path) -> Path:
    return puppets.build(directory, static=False)


@pytest.fixture(scope="session")
def static_program(directory: Path) -> Path:
    return puppets.build(directory, static=True)


@pytest.fixture
def puppet(program: Path) -> Iterator[Puppet]:
    with puppets.running(program) as it:
        yield it


@pytest.fixture
def client(puppet: Puppet) -> Client:
    return Client.of_thread(puppet.pid)
