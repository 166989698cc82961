"""Bad input, again and again: the server grows by nothing worth naming, and serves on."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ioctl.rows import POINTERS, Targets
from tests.kvm import Region, System
from tests.machine import Machine
from tests.server import Server, serving

ROUNDS = 40
WORTH_NAMING_KIB = 16 * 1024
"""Kilobytes: 0.5 MiB for each of the 30 threads that may come, a fraction of a list of 2^32."""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("guarded")]


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that no other test grows."""
    with serving() as server:
        yield server


def peak_kib(server: Server) -> int:
    """VmHWM: the most memory that was resident."""
    status = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def misuse(targets: Targets, hole: Region) -> None:
    """Each ioctl with pointers to nowhere and with a count of 2^32 - 1 before a hole."""
    middle = hole.address + hole.size // 2
    for row in POINTERS:
        hole.write(hole.size // 2 - 8, b"\xff" * 4 + bytes(4))
        for address in (0, middle, middle - 1, middle - 4, middle - 8):
            targets.outcome(row, address)


def test_server_stays_as_it_was(server: Server, hole: Region) -> None:
    system = System(server.path)
    targets = Targets(system, Machine.of(system))
    misuse(targets, hole)
    before, peak, open_files = targets.state(), peak_kib(server), descriptors(server)
    for _ in range(ROUNDS):
        misuse(targets, hole)
    assert peak_kib(server) - peak < WORTH_NAMING_KIB
    assert descriptors(server) == open_files
    assert targets.state() == before
    system.close()
