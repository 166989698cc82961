"""Tests that need a thread of their own: a PP without history, or a vCPU that runs meanwhile."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue
from typing import TypeVar

from microv.ops import vs
from microv.status import MvError

_T = TypeVar("_T")


def join(thread: threading.Thread) -> None:
    """Waits until a thread has ended for the kernel too.

    Python's own join returns earlier, while the thread is still a physical processor.
    """
    thread.join()
    while os.path.exists(f"/proc/self/task/{thread.native_id}"):
        os.sched_yield()


def in_new_thread(body: Callable[[], _T]) -> _T:
    """What `body` returns or raises on a thread that never made a hypercall."""
    results: Queue[tuple[_T | None, BaseException | None]] = Queue()

    def run() -> None:
        try:
            results.put((body(), None))
        except BaseException as error:
            results.put((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    result, error = results.get()
    join(thread)
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


@contextmanager
def staying(body: Callable[[], object]) -> Iterator[None]:
    """Another thread that has called `body` and does not end before the block does."""
    called, end = threading.Event(), threading.Event()

    def run() -> None:
        body()
        called.set()
        end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    called.wait()
    try:
        yield
    finally:
        end.set()
        join(thread)


class Runner:
    """Runs a VS again and again on its own thread, until a kick finds it told to stop."""

    def __init__(self, vsid: int) -> None:
        self.vsid = vsid
        self.exits: list[int] = []
        self.error: BaseException | None = None
        self.left = threading.Semaphore(0)
        self._stop = False
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Starts, and waits for the first exit."""
        self._thread.start()
        self.left.acquire()

    def stop(self) -> None:
        """Ends it; raises what ended it before."""
        self._stop = True
        vs.kick(self.vsid)
        join(self._thread)
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._stop:
                exit_ = vs.run(self.vsid)
                self.exits.append(exit_.reason)
                self.left.release()
        except BaseException as error:
            self.error = error
            self.left.release()


@contextmanager
def running(vsid: int) -> Iterator[Runner]:
    """A VS that another thread runs."""
    runner = Runner(vsid)
    runner.start()
    try:
        yield runner
    finally:
        runner.stop()


def wait_until_running(vsid: int) -> None:
    """Until another thread is inside `run` with a VS: other calls are refused then."""
    while True:
        try:
            vs.mp_state_get(vsid)
        except MvError:
            return
