"""Doors for tests. All of them need root and /dev/fuse."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deadline import deadline
from tests.door.doors import StandIn, served
from tests.server import public_directory

TEST_SECONDS = 60


@pytest.fixture(autouse=True)
def guarded() -> Iterator[None]:
    """A test that hangs fails."""
    with deadline(TEST_SECONDS):
        yield


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty directory that every user may enter."""
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("doors need root and /dev/fuse")
    with public_directory() as directory:
        yield directory


@pytest.fixture
def door(folder: Path) -> Iterator[StandIn]:
    """A FUSE door at `folder`/kvm."""
    with served(folder / "kvm") as server:
        yield server
