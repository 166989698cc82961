"""Client and server killed together, in either order: nothing is left of both."""

import os
import signal

import pytest

from tests.kill.churn import DEVICE_GONE, MOMENTS, Churn
from tests.kvm import System
from tests.leftovers import memfds_of, memfds_of_all, wait_until
from tests.server import serving

pytestmark = [pytest.mark.usefixtures("guarded", "clients"), pytest.mark.slow]


@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_is_left_of_both(moment: int) -> None:
    with serving() as server:
        System(server.path).close()  # raises unless kvmshim answers
        client = Churn(server.path, moment)
        memfds = memfds_of(client.pid) | memfds_of(server.pid)
        victims = [client.pid, server.pid]
        client.random.shuffle(victims)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        # A client whose server went first may end by itself before its own turn comes.
        assert client.end()[0] in {DEVICE_GONE, -signal.SIGKILL}
        assert server.wait() == -signal.SIGKILL
        wait_until(lambda: server.leftovers() == [])
        wait_until(lambda: memfds.isdisjoint(memfds_of_all()))
