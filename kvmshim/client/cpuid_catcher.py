"""What a way to catch the CPUID instruction is told about the processes it is for."""

from typing import Protocol

from kvmshim.client.process import Process
from kvmshim.client.threads import Tracee


class CpuidCatcher(Protocol):
    """Called in the tracing thread; threads named are in a ptrace-stop.

    ProcessLookupError, KvmError(ESRCH): the thread was killed meanwhile.
    """

    def executed(self, process: Process) -> bool:
        """The process has a new program and one thread, which has not run any of it. True: `enter`
        is wanted before it does."""

    def enter(self, process: Process, tracee: Tracee) -> None:
        """The new program is about to run its first instruction."""

    def forked(self, parent: int, child: int, *, shares_memory: bool) -> None:
        """Process `parent` made process `child`."""

    def met(self, process: Process, tid: int) -> None:
        """A process that was born into the tracing, perhaps without a `forked`."""

    def signalled(self, process: Process, tid: int, number: int) -> int:
        """The signal to deliver where the thread is about to take `number`; 0: it was ours."""

    def is_caught(self, process: Process, tid: int) -> bool:
        """Whether the thread is at an instruction of ours, and a signal may be on its way."""

    def withdraw(self, process: Process, tracees: list[Tracee]) -> None:
        """All threads are stopped and go on untraced: they must do without us from now on."""

    def gone(self, tgid: int) -> None:
        """The process has ended."""

    def close(self) -> None:
        """Nothing is traced any more; last of all."""
