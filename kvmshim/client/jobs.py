"""Work for one thread of ours, handed over by others and waited for by them."""

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


class JobsClosedError(Exception):
    """The thread has ended."""


class Jobs:
    """A queue with an end; jobs run one after the other."""

    def __init__(self) -> None:
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable while there may be a job; for the thread's poll."""
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()  # _closed, and `wake` against its end
        self._closed = False

    def run(self, job: Callable[[], _T]) -> _T:
        """The job's result or exception, from the thread. JobsClosedError: there is none."""
        future: Future[_T] = Future()

        def run_job() -> None:
            # Whatever a job raises belongs to the one who waits for it, in another thread.
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001, RUF100
                future.set_exception(error)

        with self._lock:
            if self._closed:
                raise JobsClosedError
            self._queue.put(run_job)
            os.eventfd_write(self.wake, 1)
        return future.result()

    def run_waiting(self) -> None:
        """Does what is there. By the thread."""
        try:
            os.eventfd_read(self.wake)
        except BlockingIOError:
            return
        self._drain()

    def close(self) -> None:
        """Does what is left and takes no more. By the thread, last."""
        with self._lock:
            self._closed = True
            os.close(self.wake)
        self._drain()

    def _drain(self) -> None:
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return
            job()
