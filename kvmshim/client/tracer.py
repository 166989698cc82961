"""The thread of ours that owns all tracing of one client; ptrace(2) binds a tracee to one thread.

Jobs are functions of the client's `Tracees`; they run one after the other. The thread starts with
the first job and ends when the client is gone; jobs that come later fail with ESRCH. A job may
wait for the client's threads, never for another job or for an answer that needs one.

Clients that are traced all their lives share the thread of their `Watch` instead.
"""

import errno
import logging
import select
import threading
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from kvmshim.client.jobs import Jobs, JobsClosedError
from kvmshim.client.process import Process
from kvmshim.client.threads import Tracees
from kvmshim.errors import KvmError

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_LEAVING_POLL_MS: Final = 2


class Tracing(Protocol):
    """A way to the thread that traces one client."""

    def run(self, job: Callable[[Tracees], _T]) -> _T:
        """The job's result or exception. ESRCH: the client is gone. EPERM is logged, once."""


def _nothing() -> None:
    """After the end."""


class TracingThread:
    """A thread that runs the jobs for one client."""

    def __init__(self, tracees: Tracees, jobs: Jobs) -> None:
        self._tracees = tracees
        self._jobs = jobs
        self._complained = False

    def run(self, job: Callable[[Tracees], _T]) -> _T:
        """As `Tracing.run`."""
        try:
            return self._jobs.run(lambda: job(self._tracees))
        except (ProcessLookupError, JobsClosedError):
            tgid = self._tracees.process.tgid
            raise KvmError(errno.ESRCH, f"client {tgid} is gone") from None
        except KvmError as error:
            if error.errno == errno.EPERM and not self._complained:
                self._complained = True
                log.error("%s", error)
            raise


class Tracer:
    """Runs jobs in a thread of the client's own."""

    def __init__(self, process: Process, on_end: Callable[[], None]) -> None:
        """`on_end` is called in the owning thread when the client is gone, if there is one."""
        self._process = process
        self._on_end = on_end
        self._lock = threading.Lock()  # _thread
        self._thread: TracingThread | None = None

    def run(self, job: Callable[[Tracees], _T]) -> _T:
        """As `Tracing.run`."""
        with self._lock:
            if self._thread is None:
                self._thread = self._start()
        return self._thread.run(job)

    def _start(self) -> TracingThread:
        tracees, jobs = Tracees(self._process), Jobs()
        threading.Thread(
            target=self._serve,
            args=(tracees, jobs),
            name=f"tracer-{self._process.tgid}",
            daemon=True,
        ).start()
        return TracingThread(tracees, jobs)

    def _serve(self, tracees: Tracees, jobs: Jobs) -> None:
        poll = select.poll()
        poll.register(jobs.wake, select.POLLIN)
        poll.register(self._process.pidfd, select.POLLIN)
        leaving = False
        while True:
            ready = dict(poll.poll(_LEAVING_POLL_MS if leaving else None))
            jobs.run_waiting()
            leaving = tracees.poll_leaving()
            if self._process.pidfd in ready and not leaving:
                break
        jobs.close()
        on_end, self._on_end = self._on_end, _nothing
        on_end()
