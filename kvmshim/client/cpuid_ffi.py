"""The CPUID instruction of the real processor, and whether it can be made to fault.

The only module that executes machine code of its own: one leaf function of the System V ABI, in a
mapping that is never writable. arch_prctl(2): ARCH_SET_CPUID, here for the calling thread.
"""

import errno
import os
from typing import Any, Final

from kvmshim.client import libc_gen, mmap_ffi
from kvmshim.client.cpuid import Cpuid

SYS_ARCH_PRCTL: Final = 158
ARCH_SET_CPUID: Final = 0x1012

_ffi: Final[Any] = libc_gen.ffi
_libc: Final[Any] = _ffi.dlopen(None)

_CODE: Final = bytes.fromhex(
    "53"  # push rbx
    "49 89 d0"  # mov r8, rdx
    "89 f8"  # mov eax, edi
    "89 f1"  # mov ecx, esi
    "0f a2"  # cpuid
    "41 89 00"  # mov [r8], eax
    "41 89 58 04"  # mov [r8+4], ebx
    "41 89 48 08"  # mov [r8+8], ecx
    "41 89 50 0c"  # mov [r8+12], edx
    "5b"  # pop rbx
    "c3"  # ret
)
_PAGE: Final = 4096


class HostCpuid:
    """Executes CPUID."""

    def __init__(self) -> None:
        """OSError: this process may not map code."""
        memfd = os.memfd_create("kvmshim-cpuid", os.MFD_CLOEXEC)
        try:
            os.write(memfd, _CODE.ljust(_PAGE, b"\xcc"))
            address = mmap_ffi.map_code(_PAGE, memfd)
        finally:
            os.close(memfd)
        self._function = _ffi.cast("cpuid_function", address)

    def execute(self, leaf: int, subleaf: int) -> Cpuid:
        """On whatever CPU this thread runs; some leaves tell CPUs apart."""
        registers = _ffi.new("uint32_t[4]")
        self._function(leaf, subleaf, registers)
        return Cpuid(*(int(value) for value in registers))

    def execute_on(self, cpu: int, leaf: int, subleaf: int) -> Cpuid:
        """On CPU number `cpu`, or on any where this thread may not run there."""
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {cpu})
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return self.execute(leaf, subleaf)
        try:
            return self.execute(leaf, subleaf)
        finally:
            os.sched_setaffinity(0, before)


def host_can_fault() -> bool:
    """Whether the host has CPUID faulting, so that ARCH_SET_CPUID works."""
    return int(_libc.syscall(SYS_ARCH_PRCTL, ARCH_SET_CPUID, 1, 0)) == 0
