"""mount(2) and its younger family, and unshare(2), as typed functions that raise OSError.

The only file of the doors that makes these system calls. Numbers are those of x86-64.
"""

import os
from typing import Any, Final

from kvmshim.device import libc_gen

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_MOUNT_ATTR_NOSUID_NODEV = 2 | 4
_MOUNT_ATTR_NOEXEC = 8
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_FDCWD = -100

_ffi: Final[Any] = libc_gen.ffi
_libc: Final[Any] = _ffi.dlopen(None)


def _check(result: int, subject: str) -> int:
    if result < 0:
        raise OSError(_ffi.errno, os.strerror(_ffi.errno), subject)
    return result


def _syscall(subject: str, number: int, *arguments: Any) -> int:
    values = [
        _ffi.cast("long", argument) if isinstance(argument, int) else argument
        for argument in arguments
    ]
    return _check(_libc.syscall(number, *values), subject)


def _text(value: str) -> Any:
    return _ffi.new("char[]", os.fsencode(value))


def fsopen(kind: str) -> int:
    """A configuration context for a new file system of type `kind`."""
    return _syscall(kind, _SYS_FSOPEN, _text(kind), _FSOPEN_CLOEXEC)


def fsconfig_string(context: int, key: str, value: str) -> None:
    """Set the option `key=value`."""
    command = _FSCONFIG_SET_STRING
    _syscall(key, _SYS_FSCONFIG, context, command, _text(key), _text(value), 0)


def fsconfig_flag(context: int, key: str) -> None:
    """Set the option `key`."""
    _syscall(key, _SYS_FSCONFIG, context, _FSCONFIG_SET_FLAG, _text(key), _ffi.NULL, 0)


def fsconfig_create(context: int) -> None:
    """Make the file system from the options set so far."""
    _syscall("create", _SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, _ffi.NULL, _ffi.NULL, 0)


def fsmount(context: int, *, executable: bool = False) -> int:
    """A detached mount (nosuid, nodev, noexec unless `executable`) as a descriptor. It lives while
    that is open."""
    flags = _MOUNT_ATTR_NOSUID_NODEV | (0 if executable else _MOUNT_ATTR_NOEXEC)
    return _syscall("fsmount", _SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, flags)


def move_mount(mount_fd: int, path: str) -> None:
    """Attach a detached mount at `path`."""
    _syscall(
        path, _SYS_MOVE_MOUNT, mount_fd, _text(""), _AT_FDCWD, _text(path), _MOVE_MOUNT_F_EMPTY_PATH
    )


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    _check(_libc.mount(_text(source), _text(target), _text(kind), flags, _text(data)), target)


def unmount(path: str) -> None:
    """Take the topmost mount off `path`; open files of it stay usable. Follows no symlink."""
    _check(_libc.umount2(_text(path), MNT_DETACH | UMOUNT_NOFOLLOW), path)


def unshare(flags: int) -> None:
    """Give this process namespaces of its own (CLONE_NEW* flags)."""
    _check(_libc.unshare(flags), "unshare")
