"""CPUID caught by the processor: CPUID faulting; arch_prctl(2), ARCH_SET_CPUID.

The kernel keeps the setting per thread, hands it on to new threads and processes and ends it at
exec, so every new program is made to ask for it before its first instruction. From then on each
CPUID instruction, wherever it is, raises SIGSEGV with SI_KERNEL.
"""

import signal

from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.client.cpuid_emulator import CpuidEmulator
from kvmshim.client.cpuid_ffi import ARCH_SET_CPUID, SYS_ARCH_PRCTL
from kvmshim.client.cpuid_instruction import CPUID
from kvmshim.client.inject import Injection
from kvmshim.client.memory import read_available
from kvmshim.client.process import Process
from kvmshim.client.threads import Tracee


class Faulting:
    """Implements `CpuidCatcher`."""

    def __init__(self, emulator: CpuidEmulator) -> None:
        self._emulator = emulator

    def executed(self, process: Process) -> bool:
        del process
        return True

    def enter(self, process: Process, tracee: Tracee) -> None:
        _let_execute(process, tracee, allowed=False)

    def forked(self, parent: int, child: int, *, shares_memory: bool) -> None:
        """The child has the setting."""

    def met(self, process: Process, tid: int) -> None:
        """It has the setting from its parent."""

    def signalled(self, process: Process, tid: int, number: int) -> int:
        if number != signal.SIGSEGV or ptrace.signal_code(tid) != ptrace.SI_KERNEL:
            return number
        if not self.is_caught(process, tid):
            return number
        registers = ptrace.get_registers(tid)
        end = registers.rip + len(CPUID)
        ptrace.set_registers(tid, self._emulator.executed(tid, registers, end))
        return 0

    def is_caught(self, process: Process, tid: int) -> bool:
        del process
        return read_available(tid, ptrace.get_registers(tid).rip, len(CPUID)) == CPUID

    def withdraw(self, process: Process, tracees: list[Tracee]) -> None:
        for tracee in tracees:
            _let_execute(process, tracee, allowed=True)

    def gone(self, tgid: int) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Likewise."""


def _let_execute(process: Process, tracee: Tracee, *, allowed: bool) -> None:
    with Injection(process, tracee) as injection:
        injection.call(SYS_ARCH_PRCTL, ARCH_SET_CPUID, int(allowed))
