"""Threads that are traced all their lives, and jobs that hold them for a while; see `watch`."""

import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.client.process import Process, ThreadStatus
from kvmshim.client.threads import Stop, ThreadGoneError, Tracee, Tracees
from kvmshim.errors import KvmError

WATCH_OPTIONS: Final = (
    ptrace.PTRACE_O_TRACESYSGOOD
    | ptrace.PTRACE_O_TRACEFORK
    | ptrace.PTRACE_O_TRACEVFORK
    | ptrace.PTRACE_O_TRACECLONE
    | ptrace.PTRACE_O_TRACEEXEC
    | ptrace.PTRACE_O_EXITKILL
)


class Watcher(Protocol):
    """What the threads need of `watch.Watch`."""

    def thread(self, tid: int) -> "Watched":
        """ThreadGoneError."""

    def stopped(self, watched: "Watched", stop: Stop) -> None:
        """Handles a stop."""

    def take_stops(self) -> None:
        """Handles all that are there."""

    def forget(self, tid: int) -> None:
        """It has ended."""


@dataclass(slots=True, kw_only=True)
class Watched(Tracee):
    """One thread. Detaching hands it back to the watch."""

    tgid: int
    watch: Watcher
    options: int = WATCH_OPTIONS
    fresh: bool = True  # nothing was heard of it yet
    wanted: bool = False  # held, or to be held when it stops
    ask_again: bool = False  # wanted, but had to go on once more
    gone: bool = False  # ended, or replaced by the thread that called exec
    stop: Stop | None = None  # the last one

    @property
    def in_group_stop(self) -> bool:
        """The last stop was one of SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU for the whole process."""
        return (
            self.stop is not None and self.stop.interrupted and self.stop.signal != signal.SIGTRAP
        )

    @property
    def runs(self) -> bool:
        """It may still run user code."""
        try:
            return not self.stopped and not ThreadStatus.of(self.tid).dead
        except KvmError:
            return False

    def hold(self) -> None:
        """Asks it to stop and to stay so. ThreadGoneError."""
        self.wanted = True
        if not self.stopped:
            try:
                ptrace.interrupt(self.tid)
            except ProcessLookupError:
                raise ThreadGoneError(self.tid) from None

    def settle(self) -> bool:
        if self.gone:
            raise ThreadGoneError(self.tid)
        return Tracee.settle(self)

    def wait(self, *, block: bool) -> Stop | None:
        stop = Tracee.wait(self, block=block)
        if stop is not None:
            self.stop = stop
        return stop

    def take_stop(self, stop: Stop) -> None:
        self.watch.stopped(self, stop)

    def detach(self) -> None:
        """Goes on from wherever a job left it, at a stop of the kernel's own choice: only from
        there are system calls restarted and group stops kept."""
        assert self.stop is not None
        if self.stop.interrupted:
            self.go_on()
        else:
            self.stopped = False
            ptrace.interrupt(self.tid)
            ptrace.resume(self.tid)

    def go_on(self) -> None:
        """From an interruption."""
        self.stopped = False
        if self.in_group_stop:
            ptrace.listen(self.tid)
        else:
            self.undo_interruption()
            ptrace.resume(self.tid)

    def resume(self, number: int = 0) -> None:
        """From any other stop, with a signal."""
        self.stopped = False
        self.undo_interruption()
        ptrace.resume(self.tid, number)
        if self.ask_again:
            self.ask_again = False
            ptrace.interrupt(self.tid)


class WatchedTracees(Tracees):
    """The jobs' view of one process."""

    def __init__(self, process: Process, watch: Watcher) -> None:
        super().__init__(process)
        self._watch = watch

    def attach(self, tid: int) -> Tracee:
        watched = self._watch.thread(tid)
        self._traced[tid] = watched
        try:
            watched.hold()
        except ThreadGoneError:
            self.forget(watched)
            raise
        return watched

    def forget(self, tracee: Tracee) -> None:
        super().forget(tracee)
        self._watch.forget(tracee.tid)

    def release(self, tracee: Tracee) -> None:
        if self._traced.pop(tracee.tid, None) is None:
            return
        assert isinstance(tracee, Watched)
        tracee.wanted = False
        if tracee.stopped and not tracee.gone:
            with suppress(ProcessLookupError):  # killed; its end comes with a later wait
                tracee.detach()

    def _meanwhile(self) -> None:
        self._watch.take_stops()
