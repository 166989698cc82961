"""--pin-vcpus: a thread that runs a vCPU and the one that serves it share a processor."""

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_IO
from tests.deadline import deadline
from tests.kvm import System
from tests.leftovers import wait_until
from tests.machine import Machine, Mode
from tests.server import Server, serving

SECONDS = 60
EXITS = 20
ALLOWED = frozenset(os.sched_getaffinity(0))

several = pytest.mark.skipif(len(ALLOWED) < 2, reason="on one processor all is pinned")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--pin-vcpus") as it:
        yield it


@pytest.fixture
def system(server: Server) -> Iterator[System]:
    with deadline(SECONDS), closing(System(server.path)) as it:
        yield it


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    """What this thread may use is as it was, whatever a test did to it."""
    yield
    os.sched_setaffinity(0, ALLOWED)


def run(system: System) -> Machine:
    """Calls KVM_RUN often enough that its server comes."""
    machine = Machine.of(system)
    machine.load("again: out 0x80, al; jmp again", Mode.REAL)
    for _ in range(EXITS):
        assert machine.vcpu.run() == KVM_EXIT_IO
    return machine


def close(machine: Machine) -> None:
    machine.vcpu.close()
    machine.vm.close()
    machine.ram.close()


def affinities(pid: int) -> list[set[int]]:
    """Of the threads of a process."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        # Threads end.
        with contextlib.suppress(ProcessLookupError):
            found.append(os.sched_getaffinity(int(task)))
    return found


@several
def test_a_thread_in_kvm_run_stays_with_the_one_that_serves_it(
    server: Server, system: System
) -> None:
    machine = run(system)
    here = os.sched_getaffinity(0)
    assert len(here) == 1
    assert here in affinities(server.pid)
    close(machine)


@several
def test_the_end_of_the_vcpu_lets_its_thread_go(system: System) -> None:
    close(run(system))
    wait_until(lambda: os.sched_getaffinity(0) == ALLOWED)


@several
def test_what_the_client_chose_meanwhile_stays(system: System) -> None:
    machine = run(system)
    (here,) = os.sched_getaffinity(0)
    other = min(ALLOWED - {here})
    os.sched_setaffinity(0, {other})
    close(machine)
    # The next one's thread is let go after it.
    thread = threading.Thread(target=lambda: go_and_come_back(system))
    thread.start()
    thread.join()
    assert os.sched_getaffinity(0) == {other}


def go_and_come_back(system: System) -> None:
    os.sched_setaffinity(0, ALLOWED)
    close(run(system))
    wait_until(lambda: os.sched_getaffinity(0) == ALLOWED)


@several
def test_threads_keep_out_of_each_others_way(system: System) -> None:
    machines: list[Machine] = []
    chosen: list[int] = []

    def other() -> None:
        os.sched_setaffinity(0, ALLOWED)  # not what the thread inherits that starts it
        machines.append(run(system))
        chosen.extend(os.sched_getaffinity(0))

    other()
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(set(chosen)) == 2
    for machine in machines:
        close(machine)


@several
def test_a_vcpu_that_goes_to_another_thread_lets_the_first_one_go(system: System) -> None:
    machine = run(system)
    assert len(os.sched_getaffinity(0)) == 1
    thread = threading.Thread(target=machine.vcpu.run)
    thread.start()
    thread.join()
    assert os.sched_getaffinity(0) == ALLOWED
    close(machine)


def test_nobody_is_pinned_who_did_not_ask() -> None:
    with deadline(SECONDS), serving() as plain, closing(System(plain.path)) as system:
        close(run(system))
        assert os.sched_getaffinity(0) == ALLOWED
        assert all(affinity == ALLOWED for affinity in affinities(plain.pid))
