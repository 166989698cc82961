"""A process and all its descendants, traced from their birth to their end; ptrace(2).

One thread of ours traces them all: it catches their CPUID instructions and runs the jobs of those
among them that are clients. Laws: signals, stops of the group (SIGSTOP, SIGCONT), exec and exit
are for them as if nobody traced; a thread that executes no CPUID and takes no signal never stops.
They have PTRACE_O_EXITKILL, for with us dies what keeps a caught instruction from ending them
anyway; `end` lets them go on without us.

They cannot trace each other (strace, gdb: EPERM). A thread made with CLONE_UNTRACED is missed.
"""

import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.client.cpuid_catcher import CpuidCatcher
from kvmshim.client.jobs import Jobs, JobsClosedError
from kvmshim.client.process import Process, ThreadStatus
from kvmshim.client.threads import ENDS, Stop, ThreadGoneError, Tracee
from kvmshim.client.tracer import TracingThread
from kvmshim.client.watched import WATCH_OPTIONS, Watched, WatchedTracees
from kvmshim.errors import KvmError

log = logging.getLogger(__name__)

END_SECONDS: Final = 2.0
"""How long the processes may take to stop when we leave; what does not is killed with us."""

_WALL: Final = 0x4000_0000
_WNOTHREAD: Final = 0x2000_0000
_OURS: Final = _WALL | _WNOTHREAD | os.WNOHANG
_PEEK: Final = _OURS | os.WEXITED | os.WNOWAIT
_END_POLL_SECONDS: Final = 0.0005
_SIGNAL_RECORDS: Final = 128 * 16
_FORKS: Final = frozenset(
    {ptrace.PTRACE_EVENT_FORK, ptrace.PTRACE_EVENT_VFORK, ptrace.PTRACE_EVENT_CLONE}
)


class Watch:
    """The tracing of one command."""

    def __init__(self, command: int, catcher: CpuidCatcher, child_signals: int) -> None:
        """Begins with `command`, a child of this process with one thread.

        `child_signals` is a signalfd for SIGCHLD, which every thread of ours blocks: the kernel
        sends it for each stop. EPERM: the child may not be traced. ESRCH: it is gone.
        """
        self._command = command
        self._catcher = catcher
        self._child_signals = child_signals
        self._jobs = Jobs()
        self._threads: dict[int, Watched] = {}
        self._processes: dict[int, Process] = {}
        self._to_enter: set[int] = set()
        self._ending = False
        self._complained = False
        self._thread = threading.Thread(target=self._serve, name="watch", daemon=True)
        self._thread.start()
        try:
            self._jobs.run(self._seize_command)
        except BaseException:
            self.end()
            raise

    def tracing(self, process: Process) -> TracingThread | None:
        """The way to trace `process` if it is watched."""
        if ThreadStatus.of(process.tgid).tracer != self._thread.native_id:
            return None
        return TracingThread(WatchedTracees(process, self), self._jobs)

    def end(self) -> None:
        """Lets everything go on untraced; may be called again."""
        with suppress(JobsClosedError):
            self._jobs.run(self._let_all_go)
        self._thread.join()

    def thread(self, tid: int) -> Watched:
        """A watched thread. ThreadGoneError: there is no such. In the tracing thread, as all of
        the following."""
        watched = self._threads.get(tid)
        if watched is not None:
            return watched
        status = ThreadStatus.of(tid)
        # A leader that has ended is traced, and listed, until whoever started it hears of it.
        if status.dead or status.tracer != self._thread.native_id:
            raise ThreadGoneError(tid)
        return self._meet(tid)

    def take_stops(self) -> None:
        """Handles what happened to the watched threads."""
        more = True
        while more:
            # Zombies are no children to the first wait, so it may fail alone.
            with suppress(ChildProcessError):
                while notice := os.waitid(os.P_ALL, 0, _OURS | os.WSTOPPED):
                    self._take_stop(notice)
            more = self._take_ends()

    def _take_stop(self, notice: os.waitid_result) -> None:
        stop = Stop(notice.si_status & 0xFF, notice.si_status >> 8)
        try:
            watched = self.thread(notice.si_pid)
        except KvmError as error:
            if error.errno != errno.ESRCH:
                raise
            return  # killed since
        watched.stopped = True
        watched.stop = stop
        self.stopped(watched, stop)

    def stopped(self, watched: Watched, stop: Stop) -> None:
        """Lets a stopped thread go on as it would have untraced, unless somebody holds it."""
        try:
            self._handle(watched, stop)
        except ProcessLookupError:
            pass  # killed; its end comes with a later wait
        except KvmError as error:
            if error.errno != errno.ESRCH:
                raise

    def forget(self, tid: int) -> None:
        """The thread has ended."""
        watched = self._threads.pop(tid, None)
        self._to_enter.discard(tid)
        if watched is None:
            return
        watched.gone = True
        if any(it.tgid == watched.tgid for it in self._threads.values()):
            return
        self._processes.pop(watched.tgid, None)
        self._catcher.gone(watched.tgid)

    def _seize_command(self) -> None:
        try:
            ptrace.seize(self._command, WATCH_OPTIONS)
        except OSError as error:
            message = f"the command cannot be traced: {error.strerror}"
            raise KvmError(error.errno or errno.EPERM, message) from error
        self._meet(self._command)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._jobs.wake, select.POLLIN)
        poll.register(self._child_signals, select.POLLIN)
        try:
            while not self._ending:
                ready = dict(poll.poll())
                if self._child_signals in ready:
                    with suppress(BlockingIOError):
                        os.read(self._child_signals, _SIGNAL_RECORDS)
                self.take_stops()
                self._jobs.run_waiting()
        finally:
            if not self._ending:
                self._let_all_go()
            self._catcher.close()
            self._jobs.close()

    def _meet(self, tid: int) -> Watched:
        tgid = ThreadStatus.of(tid).tgid
        watched = Watched(tid, tgid=tgid, watch=self, wanted=self._ending)
        watched.is_our_child = tid == self._command
        if tgid not in self._processes:
            self._processes[tgid] = Process(tgid)
        self._threads[tid] = watched
        return watched

    def _handle(self, watched: Watched, stop: Stop) -> None:
        if watched.fresh:
            watched.fresh = False
            if watched.tid != self._command:
                self._trying(lambda: self._catcher.met(self._process_of(watched), watched.tid))
        if stop.interrupted:
            self._interrupted(watched)
        elif stop.event == ptrace.PTRACE_EVENT_EXEC:
            self._executed(watched)
        elif stop.event in _FORKS:
            self._forked(watched, stop)
            watched.resume()
        elif stop.event:
            watched.resume()
        else:
            process = self._process_of(watched)
            watched.resume(self._catcher.signalled(process, watched.tid, stop.delivery))

    def _interrupted(self, watched: Watched) -> None:
        if watched.tid in self._to_enter and not watched.in_group_stop:
            self._to_enter.discard(watched.tid)
            self._trying(lambda: self._catcher.enter(self._process_of(watched), watched))
        if not watched.wanted:
            watched.detach()
        elif self._ending and self._catcher.is_caught(self._process_of(watched), watched.tid):
            # Its signal comes next and must not meet it alone.
            watched.resume()
            watched.ask_again = True

    def _executed(self, leader: Watched) -> None:
        # Whichever thread called exec, it goes on under the leader's number; the others are gone.
        for it in [it for it in self._threads.values() if it.tgid == leader.tgid]:
            it.gone = True
            del self._threads[it.tid]
        watched = self._meet(leader.tid)
        watched.fresh = False
        watched.stopped = True
        watched.stop = leader.stop
        process = self._process_of(watched)
        if self._trying(lambda: self._catcher.executed(process)):
            self._to_enter.add(watched.tid)
            ptrace.interrupt(watched.tid)
        watched.resume()

    def _forked(self, watched: Watched, stop: Stop) -> None:
        child = ptrace.event_message(watched.tid)
        try:
            tgid = self.thread(child).tgid
        except KvmError:  # killed, or never ours
            return
        if tgid != watched.tgid and self._threads[child].fresh:
            shares = stop.event != ptrace.PTRACE_EVENT_FORK
            self._catcher.forked(watched.tgid, tgid, shares_memory=shares)

    def _trying(self, work: Callable[[], bool | None]) -> bool:
        """What fails here costs the program the emulated CPUID, not its life."""
        try:
            return bool(work())
        except ProcessLookupError:
            raise
        except (OSError, KvmError) as error:
            if not self._complained:
                self._complained = True
                log.warning("CPUID shows a program the host's processor: %s", error)
            return False

    def _process_of(self, watched: Watched) -> Process:
        return self._processes[watched.tgid]

    def _take_ends(self) -> bool:
        """True: something else came to light and would get no signal of its own any more."""
        try:
            while notice := os.waitid(os.P_ALL, 0, _PEEK):
                if notice.si_pid == self._command and notice.si_code in ENDS:
                    # It stays for whoever started it and hides the others.
                    tids = [tid for tid in self._threads if tid != self._command]
                    stopped = [tid for tid in tids if not self._take_end(tid)]
                    return bool(stopped)
                if not self._take_end(notice.si_pid):
                    return True
        except ChildProcessError:
            pass  # no thread is left
        return False

    def _take_end(self, tid: int) -> bool:
        """Reaps a thread if it has ended; False if it has stopped instead."""
        try:
            # The kernel reports stops of tracees to every wait, wanted or not.
            notice = os.waitid(os.P_PID, tid, _PEEK)
            if notice is None:
                return True
            if notice.si_code not in ENDS:
                return False
            os.waitid(os.P_PID, tid, _OURS | os.WEXITED)
        except ChildProcessError:
            pass
        self.forget(tid)
        return True

    def _let_all_go(self) -> None:
        self._ending = True
        deadline = time.monotonic() + END_SECONDS
        for watched in list(self._threads.values()):
            with suppress(ThreadGoneError):
                watched.hold()
        while time.monotonic() < deadline and any(it.runs for it in self._threads.values()):
            self.take_stops()
            time.sleep(_END_POLL_SECONDS)
        for tgid, process in list(self._processes.items()):
            held: list[Tracee] = [
                it for it in self._threads.values() if it.tgid == tgid and it.stopped
            ]
            if held:
                with suppress(ProcessLookupError, KvmError):
                    self._catcher.withdraw(process, held)
            for tracee in held:
                with suppress(ProcessLookupError):
                    Tracee.detach(tracee)
