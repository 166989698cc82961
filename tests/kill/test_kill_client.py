"""A client killed at a random moment: it is gone, its memory is gone, the server serves on."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kill.churn import MOMENTS, Churn
from tests.kvm import System
from tests.leftovers import memfds_of, memfds_of_all, wait_until
from tests.server import Server, serving

pytestmark = [pytest.mark.usefixtures("guarded", "clients"), pytest.mark.slow]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for all the clients that die."""
    with serving() as server:
        yield server


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_client_leaves_nothing_in_the_server(server: Server, moment: int) -> None:
    System(server.path).close()  # raises unless kvmshim answers
    client = Churn(server.path, moment)
    memfds = memfds_of(client.pid)
    client.kill()
    assert client.end()[0] == -signal.SIGKILL
    wait_until(lambda: memfds.isdisjoint(memfds_of_all()))


@pytest.mark.parametrize("moment", MOMENTS[:5])
def test_other_client_lives_on(server: Server, moment: int) -> None:
    system = System(server.path)
    victim = Churn(server.path, moment)
    victim.kill()
    victim.end()
    assert system.create_vm().create_vcpu(0).regs().rip == 0xFFF0
    system.close()


def test_server_of_killed_clients_ends_without_leftovers(clients: Path) -> None:  # noqa: ARG001
    with serving() as server:
        client = Churn(server.path, 0)
        client.kill()
        client.end()
        assert server.stop() == 0, server.said()
        assert server.leftovers() == []
