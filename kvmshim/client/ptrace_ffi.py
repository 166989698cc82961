"""ptrace(2), process_vm_readv(2), process_vm_writev(2) and pidfd_getfd(2) as typed functions.

The only module that names them; Linux on x86-64 (`struct user_regs_struct`). Every failure is an
OSError with the kernel's errno, ESRCH also where a thread is not in ptrace-stop. Calls release
the interpreter lock. A ptrace request must come from the thread that seized.
"""

import errno
import os
import struct
from typing import Any, Final, NamedTuple

from kvmshim.client import libc_gen

_ffi: Final[Any] = libc_gen.ffi
_libc: Final[Any] = _ffi.dlopen(None)

_POKETEXT: Final = 4
_GETREGS: Final = 12
_SETREGS: Final = 13
_DETACH: Final = 17
_SYSCALL: Final = 24
_CONT: Final = 7
_SETOPTIONS: Final = 0x4200
_GETEVENTMSG: Final = 0x4201
_GETSIGINFO: Final = 0x4202
_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_LISTEN: Final = 0x4208
_GETSIGMASK: Final = 0x420A
_SETSIGMASK: Final = 0x420B
_GET_RSEQ_CONFIGURATION: Final = 0x420F
_SYS_PIDFD_GETFD: Final = 438

PTRACE_O_TRACESYSGOOD: Final = 1
PTRACE_O_TRACEFORK: Final = 1 << 1
PTRACE_O_TRACEVFORK: Final = 1 << 2
PTRACE_O_TRACECLONE: Final = 1 << 3
PTRACE_O_TRACEEXEC: Final = 1 << 4
PTRACE_O_EXITKILL: Final = 1 << 20
PTRACE_O_SUSPEND_SECCOMP: Final = 1 << 21
PTRACE_EVENT_FORK: Final = 1
PTRACE_EVENT_VFORK: Final = 2
PTRACE_EVENT_CLONE: Final = 3
PTRACE_EVENT_EXEC: Final = 4
PTRACE_EVENT_STOP: Final = 128

SI_KERNEL: Final = 0x80
"""si_code of a signal that an instruction caused."""
SYS_SECCOMP: Final = 1
"""si_code of a SIGSYS that a seccomp filter caused."""

_SIGMASK_BYTES: Final = 8
_WORD: Final = 8
_SIGINFO_BYTES: Final = 128
_SI_CODE: Final = struct.Struct("<8xi")
_RSEQ_CONFIGURATION: Final = struct.Struct("<QIIII")
_REGISTERS: Final = struct.Struct("<27Q")


class Registers(NamedTuple):
    """`struct user_regs_struct`, in the kernel's order."""

    r15: int
    r14: int
    r13: int
    r12: int
    rbp: int
    rbx: int
    r11: int
    r10: int
    r9: int
    r8: int
    rax: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    orig_rax: int
    rip: int
    cs: int
    eflags: int
    rsp: int
    ss: int
    fs_base: int
    gs_base: int
    ds: int
    es: int
    fs: int
    gs: int


def _failure() -> OSError:
    number = _ffi.errno
    return OSError(number, os.strerror(number))


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) < 0:
        raise _failure()


def seize(tid: int, options: int) -> None:
    """Starts tracing a thread without stopping it."""
    _ptrace(_SEIZE, tid, data=options)


def interrupt(tid: int) -> None:
    """Makes a seized thread stop before it next runs user code."""
    _ptrace(_INTERRUPT, tid)


def detach(tid: int) -> None:
    """Ends tracing. The kernel passes the thread through signal delivery, which is what restarts
    a system call whose result is one of the ERESTART codes."""
    _ptrace(_DETACH, tid)


def set_options(tid: int, options: int) -> None:
    """Replaces the PTRACE_O_* of a stopped thread. EPERM: PTRACE_O_SUSPEND_SECCOMP needs
    CAP_SYS_ADMIN and a tracer without a filter of its own."""
    _ptrace(_SETOPTIONS, tid, data=options)


def resume(tid: int, signal: int = 0) -> None:
    """Lets a stopped thread go on, with `signal` delivered if it is in signal-delivery-stop."""
    _ptrace(_CONT, tid, data=signal)


def resume_to_system_call(tid: int, signal: int = 0) -> None:
    """Like `resume`, until the next entry to or exit from a system call."""
    _ptrace(_SYSCALL, tid, data=signal)


def listen(tid: int) -> None:
    """Leaves a thread in its group stop, where SIGCONT is noticed and `interrupt` still works."""
    _ptrace(_LISTEN, tid)


def event_message(tid: int) -> int:
    """What the event of a stopped thread is about: the new thread, or its own id before exec."""
    raw = _ffi.new("unsigned long *")
    _ptrace(_GETEVENTMSG, tid, data=int(_ffi.cast("uintptr_t", raw)))
    return int(raw[0])


def signal_code(tid: int) -> int:
    """si_code of the signal that a stopped thread is about to take."""
    raw = _ffi.new("char[]", _SIGINFO_BYTES)
    _ptrace(_GETSIGINFO, tid, data=int(_ffi.cast("uintptr_t", raw)))
    return int(_SI_CODE.unpack_from(_ffi.buffer(raw))[0])


def store_code(tid: int, address: int, value: int) -> None:
    """Replaces one byte of a stopped thread's memory, whatever its protection; a private page is
    copied first. EIO: there is no memory, or it is shared and cannot be written.

    The seven bytes after `address & ~7` are stored with it: nobody may write them meanwhile.
    """
    start = address & ~(_WORD - 1)
    word = bytearray(_WORD)
    if read_memory_into(tid, start, word, 0, _WORD) != _WORD:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    word[address - start] = value
    _ptrace(_POKETEXT, tid, start, int.from_bytes(word, "little"))


def get_registers(tid: int) -> Registers:
    """The user registers of a stopped thread."""
    raw = _ffi.new("char[]", _REGISTERS.size)
    _ptrace(_GETREGS, tid, data=int(_ffi.cast("uintptr_t", raw)))
    return Registers._make(_REGISTERS.unpack(_ffi.buffer(raw)))


def set_registers(tid: int, registers: Registers) -> None:
    """Replaces the user registers of a stopped thread."""
    raw = _ffi.new("char[]", _REGISTERS.pack(*registers))
    _ptrace(_SETREGS, tid, data=int(_ffi.cast("uintptr_t", raw)))


def get_signal_mask(tid: int) -> int:
    """The blocked signals, bit n-1 for signal n; during a call with a temporary mask (ppoll), the
    mask that it returns to."""
    raw = _ffi.new("uint64_t *")
    _ptrace(_GETSIGMASK, tid, _SIGMASK_BYTES, int(_ffi.cast("uintptr_t", raw)))
    return int(raw[0])


def set_signal_mask(tid: int, mask: int) -> None:
    """Replaces the blocked signals; SIGKILL and SIGSTOP stay unblocked."""
    raw = _ffi.new("uint64_t *", mask)
    _ptrace(_SETSIGMASK, tid, _SIGMASK_BYTES, int(_ffi.cast("uintptr_t", raw)))


def rseq_area(tid: int) -> int:
    """Where a stopped thread registered its `struct rseq`, or 0. EIO: a kernel before 5.13."""
    raw = _ffi.new("char[]", _RSEQ_CONFIGURATION.size)
    _ptrace(
        _GET_RSEQ_CONFIGURATION,
        tid,
        _RSEQ_CONFIGURATION.size,
        int(_ffi.cast("uintptr_t", raw)),
    )
    return int(_RSEQ_CONFIGURATION.unpack(_ffi.buffer(raw))[0])


def read_memory_into(pid: int, address: int, buffer: bytearray, start: int, end: int) -> int:
    """Fills buffer[start:end] from another process's memory; the number of bytes read, less than
    asked where an unreadable page follows. EFAULT: not even one byte."""
    with _ffi.from_buffer(buffer) as local:
        ours = _ffi.new("struct iovec *", (local + start, end - start))
        theirs = _ffi.new("struct iovec *", (_ffi.cast("void *", address), end - start))
        count = _libc.process_vm_readv(pid, ours, 1, theirs, 1, 0)
        if count < 0:
            raise _failure()
    return int(count)


def write_memory(pid: int, address: int, data: bytes, start: int = 0) -> int:
    """Stores data[start:] into another process's memory as its own stores would; the number of
    bytes written, less than asked where a page that cannot be written follows. EFAULT: not even
    one byte."""
    with _ffi.from_buffer(data) as local:
        size = len(data) - start
        ours = _ffi.new("struct iovec *", (local + start, size))
        theirs = _ffi.new("struct iovec *", (_ffi.cast("void *", address), size))
        count = _libc.process_vm_writev(pid, ours, 1, theirs, 1, 0)
        if count < 0:
            raise _failure()
    return int(count)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A close-on-exec duplicate, here, of another process's fd. EBADF: it has none such."""
    ours = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0)
    if ours < 0:
        raise _failure()
    return int(ours)


_ZEROS: Final[Any] = _ffi.new("char[]", 4096)


def zero_pages(buffer: bytearray, size: int) -> bytes:
    """One byte for each 4096 bytes of the first `size` of the buffer: 1 where all are zero."""
    memcmp = _libc.memcmp
    with _ffi.from_buffer(buffer) as start:
        return bytes(memcmp(start + offset, _ZEROS, 4096) == 0 for offset in range(0, size, 4096))
