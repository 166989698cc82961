"""VMs that come and go while they are looked at."""

from collections import Counter

import pytest

from kvmshim.observe.daemon import Daemon, ObserveError
from kvmshim.observe.vms import Vm, all_vms, connect
from tests.leftovers import wait_until
from tests.observe.conftest import client_of, vcpus_of
from tests.server import Server

pytestmark = [pytest.mark.usefixtures("guarded"), pytest.mark.slow]

_LOOKS = 60


def _look(daemon: Daemon, vm: Vm, do: str) -> None:
    if do != "trace":
        daemon.ask(do, vm=vm.name, vcpu=0)
        return
    for answer in daemon.listen(do, vm=vm.name, vcpus=[0], instructions=True):
        if answer.get("ended"):
            break


@pytest.mark.parametrize("do", ["vcpu", "regs", "lapic", "trace"])
def test_a_look_finds_the_vm_or_says_that_it_has_ended(daemon: Server, do: str) -> None:
    found: Counter[str] = Counter()
    with client_of(daemon.path, "churn"):
        while found["seen"] < _LOOKS:
            for vm in all_vms():
                with connect(vm) as connection:
                    try:
                        _look(connection, vm, do)
                        found["seen"] += 1
                    except ObserveError as error:
                        found[str(error).split()[0]] += 1
    assert set(found) <= {"seen", "there", "the"}
    with client_of(daemon.path, "loop") as client:
        wait_until(lambda: vcpus_of(client)[0]["instructions_per_second"] > 0)
