"""What a CPUID instruction does to the registers of a traced thread that has just tried it."""

from pathlib import Path
from typing import Final

from kvmshim.client.cpuid import CpuidPolicy
from kvmshim.client.cpuid_ffi import HostCpuid
from kvmshim.client.ptrace_ffi import Registers

_U32: Final = (1 << 32) - 1
_PROCESSOR_FIELD: Final = 36  # of /proc/TID/stat, after the name


class CpuidEmulator:
    """The real processor's answer, seen through a policy."""

    def __init__(self, host: HostCpuid, policy: CpuidPolicy) -> None:
        self._host = host
        self._policy = policy

    def executed(self, tid: int, registers: Registers, end: int) -> Registers:
        """The registers after the instruction, which ends at address `end`.

        The real one is executed on the thread's CPU, for some leaves tell CPUs apart.
        """
        leaf, subleaf = registers.rax & _U32, registers.rcx & _U32
        shown = self._policy.shown(leaf, self._host.execute_on(_cpu_of(tid), leaf, subleaf))
        return registers._replace(
            rax=shown.eax, rbx=shown.ebx, rcx=shown.ecx, rdx=shown.edx, rip=end
        )


def _cpu_of(tid: int) -> int:
    text = Path(f"/proc/{tid}/stat").read_text(errors="replace")
    return int(text.rpartition(")")[2].split()[_PROCESSOR_FIELD])
