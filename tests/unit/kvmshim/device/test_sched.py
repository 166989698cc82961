"""The wish for short time slices, which changes nothing else."""

import os
import threading
from pathlib import Path

import pytest

from kvmshim.device.sched_ffi import SLICE_NS, ask_for_short_slices


def slice_ns() -> int | None:
    """Of this thread, where the kernel says it."""
    for line in Path("/proc/thread-self/sched").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "se.slice":
            return int(value)
    return None


def in_a_thread(nice: int) -> tuple[int, int, int | None]:
    """What a thread is like that one with the wish has started: niceness, policy, slice."""
    seen: list[tuple[int, int, int | None]] = []

    def look() -> None:
        tid = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, tid)
        seen.append((niceness, os.sched_getscheduler(tid), slice_ns()))

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
        ask_for_short_slices()
        started = threading.Thread(target=look)
        started.start()
        started.join()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return seen[0]


@pytest.mark.parametrize("nice", [0, 5])
def test_niceness_and_policy_stay(nice: int) -> None:
    assert in_a_thread(nice)[:2] == (nice, os.SCHED_OTHER)


@pytest.mark.skipif(
    not Path("/proc/thread-self/sched").exists() or slice_ns() is None,
    reason="the kernel does not say how long slices are",
)
def test_slices_are_short_in_threads_that_are_started() -> None:
    assert in_a_thread(0)[2] == SLICE_NS
