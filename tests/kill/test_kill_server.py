"""A server killed with a client open: the client gets an error, and nothing is left."""

import signal

import pytest

from tests.kill.churn import DEVICE_GONE, MOMENTS, Churn
from tests.kvm import System
from tests.leftovers import memfds_of, memfds_of_all, wait_until
from tests.server import public_directory, serving, serving_in

pytestmark = [pytest.mark.usefixtures("guarded", "clients"), pytest.mark.slow]

# A client dies with a server that had borrowed its registers: nobody could give them back.
ENDS_OF_THE_CLIENT = {DEVICE_GONE, -signal.SIGKILL}


@pytest.mark.parametrize("moment", MOMENTS)
def test_client_of_a_killed_server_gets_an_error(moment: int) -> None:
    with serving() as server:
        System(server.path).close()  # raises unless kvmshim answers
        client = Churn(server.path, moment)
        memfds = memfds_of(client.pid) | memfds_of(server.pid)
        server.kill()
        assert server.wait() == -signal.SIGKILL
        status, said = client.end()
        assert status in ENDS_OF_THE_CLIENT, said
        wait_until(lambda: server.leftovers() == [])
        wait_until(lambda: memfds.isdisjoint(memfds_of_all()))


def test_killed_server_may_be_started_again_at_once() -> None:
    with public_directory() as directory, serving_in(directory) as first:
        first.kill()
        first.wait()
        with serving_in(directory) as second:
            System(second.path).close()
            assert second.stop() == 0, second.said()
            assert second.leftovers() == []
