"""finit_module(2) and reboot(2), for the init of the throw-away machine."""

import os

from cffi import FFI  # type: ignore[import-untyped]

_SYS_FINIT_MODULE = 313
_RB_POWER_OFF = 0x4321FEDC

_ffi = FFI()
_ffi.cdef("""
long syscall(long number, ...);
int reboot(int command);
""")
_libc = _ffi.dlopen(None)


def load_module(path: str) -> None:
    """Load a kernel module without parameters."""
    module = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        number = _ffi.cast("long", _SYS_FINIT_MODULE)
        parameters = _ffi.new("char[]", b"")
        if _libc.syscall(number, _ffi.cast("long", module), parameters, _ffi.cast("long", 0)):
            raise OSError(_ffi.errno, os.strerror(_ffi.errno), path)
    finally:
        os.close(module)


def power_off() -> None:
    """End the machine at once. Only its init may, and never on a real one."""
    if os.getpid() != 1:
        raise RuntimeError("only the init of the throw-away machine powers off")
    _libc.reboot(_RB_POWER_OFF)
