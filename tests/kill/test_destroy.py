"""VMs that end while vCPUs run, eventfds fire and the routing of interrupts changes.

`tests/clients/destroy` ends each in one of four ways: killed, by exit, by exec, or by closing its
descriptors in any order.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import programs
from tests.deadline import deadline
from tests.kvm import System
from tests.leftovers import memfds_of, processes_of_session, wait_until
from tests.server import Server, serving

ROUNDS: Final = int(os.environ.get("KVMSHIM_DESTROYS", "300"))
SECONDS_OF_A_ROUND: Final = 0.3
"""Ten times what one takes."""

WARM_UP: Final = 50
GROWTH_KIB: Final = 64 * 1024
"""What the heaps of a few dozen threads may keep: of 10 000 rounds, 6 KiB each."""

IDLE_DESCRIPTORS: Final = 16
"""Of a server without clients: pipes and sockets of its own, what it waits with."""

pytestmark = [pytest.mark.usefixtures("clients"), pytest.mark.slow]


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that is as it is after a few rounds."""
    with serving() as server:
        destroy(server, WARM_UP, seed=0)
        yield server


def destroy(server: Server, rounds: int, *, seed: int) -> None:
    """So many VMs come and go; raises when something is not as it should be."""
    System(server.path).close()  # raises unless kvmshim answers
    command = [str(programs.BINARIES / "destroy"), str(server.path), str(rounds), str(seed)]
    with deadline(30 + int(rounds * SECONDS_OF_A_ROUND)):
        subprocess.run(command, check=True, env=programs.ENVIRONMENT, stdout=subprocess.DEVNULL)


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def resident_kib(server: Server) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def is_settled(server: Server) -> bool:
    """Nothing is left of VMs: no memory of theirs, no file of theirs, no client."""
    return not memfds_of(server.pid) and descriptors(server) <= IDLE_DESCRIPTORS


def test_nothing_is_left_of_them(server: Server) -> None:
    helpers, resident = processes_of_session(server.pid), resident_kib(server)
    destroy(server, ROUNDS, seed=1)
    with deadline(30):
        wait_until(lambda: is_settled(server))
    assert resident_kib(server) - resident < GROWTH_KIB
    assert processes_of_session(server.pid) == helpers


def test_server_serves_on_and_ends(server: Server) -> None:
    destroy(server, WARM_UP, seed=2)
    system = System(server.path)
    assert system.create_vm().create_vcpu(0).regs().rip == 0xFFF0
    system.close()
    assert server.stop() == 0
    assert server.leftovers() == []
    assert server.said() == ""
