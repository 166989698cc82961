"""The device that tests talk to: kvmshim on a FUSE file, never the machine's own /dev/kvm."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import programs
from tests.deadline import deadline
from tests.kvm import System
from tests.server import serving

TEST_SECONDS = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", type=Path, help="a device that kvmshim serves already")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a quarter of a second")


@pytest.fixture
def guarded() -> Iterator[None]:
    """A test that hangs fails."""
    with deadline(TEST_SECONDS):
        yield


@pytest.fixture(scope="session")
def device_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A FUSE file served by one kvmshim for the whole run, which must leave nothing behind; or what
    --device names."""
    given: Path | None = request.config.getoption("--device")
    if given:
        yield given
        return
    with serving() as server:
        System(server.path).close()  # raises unless kvmshim answers
        yield server.path
        status = server.stop()
        assert status == 0, server.said()
        assert server.leftovers() == []


@pytest.fixture
def system(device_path: Path, guarded: None) -> Iterator[System]:  # noqa: ARG001
    """The device, opened for one test; all that the test makes of it is closed after it."""
    system = System(device_path)
    yield system
    system.close()


@pytest.fixture(scope="session")
def clients() -> Path:
    """The folder of the C programs, built if they are not."""
    programs.build()
    return programs.BINARIES
