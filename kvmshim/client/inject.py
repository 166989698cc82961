"""System calls made by a stopped thread of a client on our behalf; ptrace(2).

Laws: from the first changed register until all are restored the thread has PTRACE_O_EXITKILL, so
that a client never runs with registers of ours when this process dies. All signals are blocked
meanwhile, so that no handler sees such registers; a signal that comes anyway is sent again at the
end. A seccomp filter of the client's is suspended; where that cannot be, the calls are made under
it, and are refused as any call that it refuses: with its errno, or EPERM in place of SIGSYS. What
the thread had - registers, signal mask, the restart of its interrupted call, its rseq critical
section - is as before afterwards.

Not done: clients in 32-bit mode (EOPNOTSUPP), calls that block or replace the restart block
(nanosleep, poll, futex).
"""

import errno
import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final, Self

from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.client.maps import PAGE
from kvmshim.client.memory import read_exactly, write_exactly
from kvmshim.client.process import Process, ThreadStatus
from kvmshim.client.syscall_instruction import find_syscall
from kvmshim.client.threads import Stop, ThreadGoneError, Tracee, signed, will_restart
from kvmshim.errors import KvmError

SYS_MMAP: Final = 9
SYS_MUNMAP: Final = 11
SYS_MADVISE: Final = 28
SYS_CLOSE: Final = 3
SYS_RECVMSG: Final = 47
SYS_SOCKETPAIR: Final = 53
SYS_MLOCK: Final = 149
SYS_PRCTL: Final = 157
SYS_SECCOMP: Final = 317

_USER64_CS: Final = 0x33
_U64: Final = (1 << 64) - 1
_MAX_ERRNO: Final = 4095
_SIGSYS_BIT: Final = 1 << signal.SIGSYS - 1
_RED_ZONE: Final = 128
_STACK_SCRATCH: Final = 256
_RSEQ_CS_OFFSET: Final = 8


class Injection:
    """One stopped thread while it works for us; a context manager.

    Leaving it restores the thread, which stays stopped.
    """

    def __init__(self, process: Process, tracee: Tracee) -> None:
        """EOPNOTSUPP: the thread runs in 32-bit mode."""
        self._process = process
        self._tracee = tracee
        self.registers = ptrace.get_registers(tracee.tid)
        """What the thread gets back in the end."""
        self._instruction = 0
        self._sent_meanwhile: set[int] = set()
        self._filtered = False
        if self.registers.cs != _USER64_CS:
            raise KvmError(errno.EOPNOTSUPP, f"client thread {tracee.tid} is not in 64-bit mode")

    def __enter__(self) -> Self:
        tid = self._tracee.tid
        self._mask = ptrace.get_signal_mask(tid)
        self._rseq_field = _rseq_critical_section(tid)
        self._rseq_value = read_exactly(tid, self._rseq_field, 8) if self._rseq_field else b""
        self._take_options(ptrace.PTRACE_O_EXITKILL)
        # The kernel forces SIGSYS on a thread that blocks it, and takes its handler away.
        ptrace.set_signal_mask(tid, _U64 & ~_SIGSYS_BIT if self._filtered else _U64)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tid = self._tracee.tid
        try:
            ptrace.set_registers(tid, self.registers)
            ptrace.set_signal_mask(tid, self._mask)
            if any(self._rseq_value):
                ptrace.write_memory(tid, self._rseq_field, self._rseq_value)
            ptrace.set_options(tid, self._tracee.options)
            for number in self._sent_meanwhile:
                signal.pidfd_send_signal(self._process.pidfd, number)
        except ProcessLookupError:
            if error is None:
                raise ThreadGoneError(tid) from None

    def call(self, number: int, *arguments: int) -> int:
        """The call's result. OSError: it failed in the client; ThreadGoneError: killed in it."""
        tid = self._tracee.tid
        padded = [value & _U64 for value in (*arguments, 0, 0, 0, 0, 0, 0)]
        registers = self.registers._replace(
            rip=self._syscall_instruction(),
            rax=number,
            orig_rax=_U64,
            rdi=padded[0],
            rsi=padded[1],
            rdx=padded[2],
            r10=padded[3],
            r8=padded[4],
            r9=padded[5],
        )
        ptrace.set_registers(tid, registers)
        result = self._run_call()
        if self._filtered and self._take_refusal():
            result = -errno.EPERM
        if -_MAX_ERRNO <= result < 0:
            why = f" under the seccomp filter of thread {tid}" if self._filtered else ""
            raise OSError(-result, f"{os.strerror(-result)}{why}")
        return result

    def finish_own_call(self) -> None:
        """Lets the thread complete the call of its own that our stop interrupted.

        Its wait must be over: nobody can interrupt it again.
        """
        while will_restart(self.registers):
            self._run_call()
            self.registers = ptrace.get_registers(self._tracee.tid)

    @contextmanager
    def scratch(self) -> Iterator[int]:
        """A writable page of the client's for the arguments of calls.

        A mapping of its own rather than its stack: a stack may be a few KiB of a heap, as Go's
        are, and other threads use what lies below it. The stack serves where mmap fails.
        """
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        try:
            page = self.call(SYS_MMAP, 0, PAGE, protection, flags, -1, 0)
        except OSError:
            with self._scratch_on_stack() as address:
                yield address
            return
        try:
            yield page
        finally:
            with suppress(ThreadGoneError):  # and the page with it
                self.call(SYS_MUNMAP, page, PAGE)

    @contextmanager
    def _scratch_on_stack(self) -> Iterator[int]:
        address = (self.registers.rsp - _RED_ZONE - _STACK_SCRATCH) & ~63
        old = read_exactly(self._tracee.tid, address, _STACK_SCRATCH)
        try:
            yield address
        finally:
            write_exactly(self._tracee.tid, address, old)

    def _take_options(self, options: int) -> None:
        tid = self._tracee.tid
        options |= self._tracee.options
        try:
            ptrace.set_options(tid, options | ptrace.PTRACE_O_SUSPEND_SECCOMP)
        except OSError as error:
            # EINVAL: a kernel without CONFIG_CHECKPOINT_RESTORE. EPERM: without CAP_SYS_ADMIN, or
            # under a filter ourselves, as in a container.
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            self._filtered = ThreadStatus.of(tid).filters > self._process.own_filters
            ptrace.set_options(tid, options)

    def _run_call(self) -> int:
        """Resumes the thread through the entry to and the exit from one call."""
        tid = self._tracee.tid
        for _ in ("entry", "exit"):
            self._tracee.stopped = False
            ptrace.resume_to_system_call(tid)
            self._wait_at_system_call()
        return signed(ptrace.get_registers(tid).rax)

    def _take_refusal(self) -> bool:
        """Whether a filter answered the last call with SIGSYS, which is taken off the thread."""
        tid = self._tracee.tid
        if not ThreadStatus.of(tid).pending & _SIGSYS_BIT:
            return False
        self._tracee.stopped = False
        ptrace.resume_to_system_call(tid)
        while (stop := self._tracee.next_stop()).delivery != signal.SIGSYS:
            self._put_off(stop)
        if ptrace.signal_code(tid) == ptrace.SYS_SECCOMP:
            return True
        self._sent_meanwhile.add(signal.SIGSYS)
        return False

    def _wait_at_system_call(self) -> None:
        while not (stop := self._tracee.next_stop()).at_system_call:
            self._put_off(stop)

    def _put_off(self, stop: Stop) -> None:
        """Goes on from a stop by a signal that cannot be blocked, or is not."""
        if stop.delivery in (signal.SIGSTOP, signal.SIGSYS):
            self._sent_meanwhile.add(stop.delivery)
        elif stop.delivery:
            raise KvmError(
                errno.EOPNOTSUPP,
                f"signal {stop.delivery} in a call made for client thread {self._tracee.tid}",
            )
        self._tracee.stopped = False
        ptrace.resume_to_system_call(self._tracee.tid)

    def _syscall_instruction(self) -> int:
        if self._instruction == 0:
            self._instruction = find_syscall(self._process, before=self.registers.rip)
        return self._instruction


def _rseq_critical_section(tid: int) -> int:
    """Where the thread's `rseq_cs` pointer lies, or 0. The kernel clears it when the thread returns
    to code outside the section, as it does for us, and would not abort the section any more."""
    try:
        area = ptrace.rseq_area(tid)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return 0
    return area + _RSEQ_CS_OFFSET if area else 0
