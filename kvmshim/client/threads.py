"""The threads of one client that this thread of ours traces: seize, stop, resume; ptrace(2).

Laws: every method runs in the one thread that owns the client's tracing (`tracer`). A thread that
was stopped inside a system call goes on as if nothing had happened: the kernel restarts what ends
in an ERESTART code, and what ends in plain EINTR on any stop is turned into such an end here. What
cannot be undone: a restarted epoll_wait waits its whole timeout again, and a transfer that had
begun returns short, as after SIGCONT.
"""

import errno
import os
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.client.process import Process, ThreadStatus
from kvmshim.errors import KvmError

STOP_SECONDS: Final = 5.0
"""How long a thread may take to stop; one in uninterruptible sleep takes as long as its disk."""

InFlight = Callable[[], Collection[int]]
"""The threads that wait in requests of ours now."""

_WALL: Final = 0x4000_0000
_WNOTHREAD: Final = 0x2000_0000
ENDS: Final = frozenset({os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED})
"""si_code of a wait that reports an end rather than a stop."""
_EAGER_POLLS: Final = 50
_POLL_SECONDS: Final = 0.0001

_ERESTART_CODES: Final = frozenset({-512, -513, -514, -516})
_ERESTARTNOHAND: Final = -514

# Calls whose waits end in EINTR on any wake-up, see signal(7) on stop signals: read (inotify),
# ioctl (our own KVM_RUN, as FUSE shows it the stop), the socket calls (SO_RCVTIMEO, SO_SNDTIMEO),
# semop, semtimedop, rt_sigtimedwait, io_getevents, epoll_wait, epoll_pwait, io_uring_enter,
# epoll_pwait2.
_PLAIN_EINTR_CALLS: Final = frozenset(
    {0, 1, 16, 19, 20, 42, 43, 44, 45, 46, 47, 65, 128, 208, 220, 232, 281, 288, 299, 307, 426, 441}
)


def nobody() -> Collection[int]:
    """`InFlight` where no other request is served."""
    return ()


class ThreadGoneError(KvmError):
    """The traced thread has ended, as a rule by SIGKILL."""

    def __init__(self, tid: int) -> None:
        super().__init__(errno.ESRCH, f"client thread {tid} is gone")


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a traced thread stopped."""

    signal: int
    event: int

    @property
    def interrupted(self) -> bool:
        """PTRACE_INTERRUPT or a group stop; before any user code."""
        return self.event == ptrace.PTRACE_EVENT_STOP

    @property
    def at_system_call(self) -> bool:
        return self.event == 0 and self.signal == signal.SIGTRAP | 0x80

    @property
    def delivery(self) -> int:
        """The signal about to be delivered, or 0."""
        return self.signal if self.event == 0 and not self.at_system_call else 0


def signed(value: int) -> int:
    """A 64-bit register as a signed number."""
    return value - (1 << 64) if value >> 63 else value


@dataclass(slots=True)
class Tracee:
    """One seized thread."""

    tid: int
    stopped: bool = False
    is_our_child: bool = False  # its wait status is for whoever started it
    options: int = ptrace.PTRACE_O_TRACESYSGOOD  # what it has when nothing is injected

    def wait(self, *, block: bool) -> Stop | None:
        """Its next stop; None if there is none yet and `block` is off.

        ThreadGoneError: it has ended; a child of ours is still to be reaped by waitpid(2).
        """
        flags = _WALL | _WNOTHREAD | os.WSTOPPED | (0 if block else os.WNOHANG)
        try:
            notice = self._take_notice(flags)
        except ChildProcessError:
            raise ThreadGoneError(self.tid) from None
        if notice is None:
            return None
        if notice.si_code in ENDS:
            raise ThreadGoneError(self.tid)
        self.stopped = True
        return Stop(notice.si_status & 0xFF, notice.si_status >> 8)

    def next_stop(self) -> Stop:
        """Its next stop, waited for.

        ThreadGoneError: it has ended. The wait does not block in the kernel: the end of a leader is
        told only when its threads are reaped, and those may be this thread's to reap.
        """
        polls = 0
        while (stop := self.wait(block=False)) is None:
            polls += 1
            if polls < _EAGER_POLLS:
                continue
            if ThreadStatus.of(self.tid).dead:
                raise ThreadGoneError(self.tid)
            time.sleep(_POLL_SECONDS)
        return stop

    def _take_notice(self, flags: int) -> os.waitid_result | None:
        if not self.is_our_child:
            return os.waitid(os.P_PID, self.tid, flags | os.WEXITED)
        while True:
            notice = os.waitid(os.P_PID, self.tid, flags | os.WEXITED | os.WNOWAIT)
            if notice is None or notice.si_code in ENDS:
                return notice
            # Without WEXITED: killed since, it must not be reaped here.
            taken = os.waitid(os.P_PID, self.tid, flags | os.WNOHANG)
            if taken is not None:
                return taken

    def settle(self) -> bool:
        """Whether it stands still before user code yet; it must have been interrupted.

        A signal that it was just taking is delivered first.
        """
        while not self.stopped:
            stop = self.wait(block=False)
            if stop is None:
                return False
            self.take_stop(stop)
        return True

    def take_stop(self, stop: Stop) -> None:
        """Goes on from any stop that was not asked for."""
        if not stop.interrupted:
            self.stopped = False
            ptrace.resume(self.tid, stop.delivery)

    def detach(self) -> None:
        """Lets a stopped thread go on untraced."""
        self.undo_interruption()
        ptrace.detach(self.tid)

    def undo_interruption(self) -> None:
        """Keeps the stop from ending a call that only a signal handler may end."""
        registers = ptrace.get_registers(self.tid)
        if _interrupted_by_stop(registers):
            # The kernel decides on the way out: restarted, or EINTR if a handler runs.
            ptrace.set_registers(self.tid, registers._replace(rax=_ERESTARTNOHAND & (1 << 64) - 1))


def will_restart(registers: ptrace.Registers) -> bool:
    """Whether the kernel makes the thread's call again when the thread goes on."""
    return signed(registers.rax) in _ERESTART_CODES and signed(registers.orig_rax) >= 0


def _interrupted_by_stop(registers: ptrace.Registers) -> bool:
    return (
        signed(registers.rax) == -errno.EINTR
        and signed(registers.orig_rax) >= 0
        and registers.orig_rax in _PLAIN_EINTR_CALLS
    )


class Tracees:
    """The traced threads of one process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._traced: dict[int, Tracee] = {}  # held by a job, or asked for
        self._leaving: dict[int, Tracee] = {}

    def attach(self, tid: int) -> Tracee:
        """Seizes one thread and asks it to stop; does not wait.

        ESRCH: it is gone, or belongs to another process. EPERM: it may not be traced.
        """
        tracee = self._leaving.pop(tid, None) or self._traced.get(tid)
        if tracee is None:
            tracee = self._seize(tid)
        self._traced[tid] = tracee
        if not tracee.stopped:
            ptrace.interrupt(tid)
        return tracee

    def _seize(self, tid: int) -> Tracee:
        _seize(tid)
        tracee = Tracee(tid)
        # Looked at now that it cannot change hands any more.
        status = ThreadStatus.of(tid)
        if status.tgid != self.process.tgid:
            self._leaving[tid] = tracee
            ptrace.interrupt(tid)
            raise ThreadGoneError(tid)
        tracee.is_our_child = status.tgid == tid and status.parent == os.getpid()
        return tracee

    def forget(self, tracee: Tracee) -> None:
        """The thread has ended."""
        self._traced.pop(tracee.tid, None)
        self._leaving.pop(tracee.tid, None)

    def release(self, tracee: Tracee) -> None:
        """Lets a thread go on, at once if it is stopped, else as soon as it stops."""
        if self._traced.pop(tracee.tid, None) is not None:
            self._leaving[tracee.tid] = tracee
            self._try_leave(tracee)

    def stop_all(self, in_flight: InFlight) -> list[Tracee]:
        """Stops every thread but those in `in_flight`, which wait for an answer of ours and must
        not get it meanwhile; those that were not stopped before, for `release_all`.

        EBUSY: a thread did not stop within STOP_SECONDS; then all go on.
        """
        taken: list[Tracee] = []
        try:
            while self.interrupt_all(in_flight, taken):
                self.wait_all(taken, in_flight)
        except BaseException:
            self.release_all(taken)
            raise
        return taken

    def interrupt_all(self, in_flight: InFlight, taken: list[Tracee]) -> bool:
        """Asks the threads that are not traced yet to stop and adds them to `taken`; False if
        there was none."""
        before = len(taken)
        for tid in self.process.threads() - set(self._traced) - set(in_flight()):
            try:
                taken.append(self.attach(tid))
            except ThreadGoneError:
                continue
        return len(taken) > before

    def wait_all(self, taken: list[Tracee], in_flight: InFlight) -> None:
        """Waits until each of `taken` is stopped or entered a request of ours. EBUSY as above."""
        deadline = time.monotonic() + STOP_SECONDS
        polls = 0
        while waiting := [tracee.tid for tracee in taken if not self._is_settled(tracee)]:
            if set(waiting) <= set(in_flight()):
                return
            if time.monotonic() > deadline:
                raise KvmError(errno.EBUSY, f"client threads {waiting} cannot be stopped")
            polls += 1
            self._meanwhile()
            time.sleep(0 if polls < _EAGER_POLLS else _POLL_SECONDS)

    def release_all(self, taken: list[Tracee]) -> None:
        for tracee in taken:
            self.release(tracee)

    def poll_leaving(self) -> bool:
        """Lets go those that could not be released at once; True if some are left."""
        for tracee in list(self._leaving.values()):
            self._try_leave(tracee)
        return bool(self._leaving)

    def _is_settled(self, tracee: Tracee) -> bool:
        if tracee.tid not in self._traced:
            return True
        try:
            return tracee.settle()
        except ThreadGoneError:
            self.forget(tracee)
            tracee.stopped = True
            return True
        except ProcessLookupError:
            return False  # killed between two requests; its end comes with the next wait

    def _meanwhile(self) -> None:
        """What cannot wait while threads are waited for."""

    def _try_leave(self, tracee: Tracee) -> None:
        try:
            if tracee.settle():
                tracee.stopped = False
                tracee.detach()
                self._leaving.pop(tracee.tid)
        except ThreadGoneError:
            self.forget(tracee)
        except ProcessLookupError:
            pass  # killed between two requests; its end comes with a later wait


def _seize(tid: int) -> None:
    try:
        ptrace.seize(tid, ptrace.PTRACE_O_TRACESYSGOOD)
    except ProcessLookupError:
        raise ThreadGoneError(tid) from None
    except PermissionError:
        status = ThreadStatus.of(tid)
        if status.dead:
            raise ThreadGoneError(tid) from None
        raise KvmError(errno.EPERM, _why_not(tid, status.tracer)) from None


def _why_not(tid: int, tracer: int) -> str:
    if tracer:
        return (
            f"client thread {tid} is already traced by process {tracer} (strace, gdb); "
            "start the client with `kvmshim run` inside the tracer instead"
        )
    return (
        f"client thread {tid} may not be traced: run kvmshim as root or as the client's user, "
        "with kernel.yama.ptrace_scope 0, or start the client with `kvmshim run`"
    )
