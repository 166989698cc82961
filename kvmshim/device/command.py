"""The command of `kvmshim run`: forked early, executed when its `/dev/kvm` is ready.

Between the two it waits on a pipe, so that it starts from a process with one thread and without a
FUSE connection.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from kvmshim.device.fork_ffi import fork_for_us

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""Exit statuses of a command that cannot be executed, as shells have them."""

_CORE_DUMPED = 0x80  # in a wait status


class Command:
    """A child process that becomes the command."""

    def __init__(self, argv: Sequence[str], prepare: Callable[[], None] = lambda: None) -> None:
        """Fork. `prepare` is called in the child, last before exec."""
        start, self._start = os.pipe2(os.O_CLOEXEC)
        self.pid = fork_for_us()
        if self.pid == 0:
            os.close(self._start)
            _become(argv, prepare, start)
        os.close(start)

    def start(self) -> None:
        """Execute the command now."""
        os.write(self._start, b"\n")
        os.close(self._start)

    def abandon(self) -> None:
        """End the child instead."""
        os.close(self._start)
        self.wait()

    def wait(self) -> int:
        """Its wait status, once it has ended."""
        # Its end only: the stops of a traced command are its tracer's.
        end = os.waitid(os.P_PID, self.pid, os.WEXITED)
        assert end is not None
        if end.si_code == os.CLD_EXITED:
            return end.si_status << 8
        return end.si_status | (_CORE_DUMPED if end.si_code == os.CLD_DUMPED else 0)


def _become(argv: Sequence[str], prepare: Callable[[], None], start: int) -> NoReturn:
    status = NOT_EXECUTABLE
    try:
        # What Python has changed for itself; the terminal's ^C is for the command, unless our own
        # parent wanted it ignored.
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if os.read(start, 1):
            prepare()
            os.execvp(argv[0], list(argv))
    except FileNotFoundError as error:
        status = NOT_FOUND
        print(f"kvmshim: {argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
    except OSError as error:
        print(f"kvmshim: {argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def exit_like(wait_status: int) -> NoReturn:
    """End this process as the one with `wait_status` ended: same exit status or same signal."""
    if os.WIFSIGNALED(wait_status):
        number = os.WTERMSIG(wait_status)
        # The command has dumped its core; ours would only bury it.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
        os._exit(128 + number)
    os._exit(os.waitstatus_to_exitcode(wait_status))
