"""What every container's test needs: a place for the bundle, a device."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Server, public_directory, serving


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where a bundle is made."""
    with public_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def server_for_all() -> Iterator[Server]:
    """A device that every user may open."""
    with serving("--mode", "0666") as server:
        yield server
