"""Mounts: detached ones that no path leads to, and those of FUSE on a path.

The way of Linux 5.2 and later is fsopen, fsconfig, fsmount. Where that is missing or forbidden
(an old kernel, a container's seccomp filter) mount(2) does, for a detached mount on a directory
that is let go at once. The type is `fuse.kvmshim`, by which `mount_table` finds ours again.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Iterable

from kvmshim.device import mount_ffi

FUSE_DEVICE = "/dev/fuse"
SOURCE = "kvmshim"
SUBTYPE = "kvmshim"
_NO_NEW_MOUNT_API = (errno.ENOSYS, errno.EPERM, errno.EINVAL)


def open_fuse_device() -> int:
    """A new, unused FUSE connection. Never inherited across exec; never open in another process.

    OSError: ENOENT or ENODEV without FUSE in the kernel, EACCES, EPERM.
    """
    return os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC)


def mount_detached(fuse_fd: int) -> int:
    """Mount `fuse_fd` with a directory as its root, reachable through the returned fd alone."""
    try:
        return _new_mount(fuse_fd, stat.S_IFDIR | 0o700)
    except OSError as error:
        if error.errno not in _NO_NEW_MOUNT_API:
            raise
    directory = tempfile.mkdtemp(prefix="kvmshim-")
    try:
        _old_mount(fuse_fd, stat.S_IFDIR | 0o700, directory)
        try:
            return os.open(directory, os.O_PATH | os.O_CLOEXEC)
        finally:
            mount_ffi.unmount(directory)
    finally:
        os.rmdir(directory)


def mount_file(fuse_fd: int, path: str) -> None:
    """Mount `fuse_fd`, whose root is a regular file, over the file at `path`."""
    try:
        mount_fd = _new_mount(fuse_fd, stat.S_IFREG | 0o600)
    except OSError as error:
        if error.errno not in _NO_NEW_MOUNT_API:
            raise
        _old_mount(fuse_fd, stat.S_IFREG | 0o600, path)
        return
    try:
        mount_ffi.move_mount(mount_fd, path)
    finally:
        os.close(mount_fd)


def mount_large_pages() -> int:
    """Mount a tmpfs whose files have large pages, reachable through the returned fd alone. Their
    size is not limited, and code in them may be executed: a client's memory may have some.

    What the system says about shared memory and large pages
    (`/sys/kernel/mm/transparent_hugepage/shmem_enabled`, mostly never) is not about mounts with an
    option of their own; Documentation/admin-guide/mm/transhuge.rst, "Shmem/tmpfs". OSError.
    """
    options = {"source": SOURCE, "mode": "0700", "size": "0", "huge": "always"}
    return _detached("tmpfs", options, executable=True)


def _options(fuse_fd: int, root_mode: int) -> dict[str, str]:
    return {
        "fd": str(fuse_fd),
        "rootmode": f"{root_mode:o}",
        "user_id": str(os.getuid()),
        "group_id": str(os.getgid()),
    }


# Who may open what is decided by mode and owner of the file, as for a device node.
_FLAGS = ("allow_other", "default_permissions")


def _new_mount(fuse_fd: int, root_mode: int) -> int:
    options = {"source": SOURCE, "subtype": SUBTYPE, **_options(fuse_fd, root_mode)}
    return _detached("fuse", options, _FLAGS)


def _detached(
    kind: str, options: dict[str, str], flags: Iterable[str] = (), *, executable: bool = False
) -> int:
    context = mount_ffi.fsopen(kind)
    try:
        for key, value in options.items():
            mount_ffi.fsconfig_string(context, key, value)
        for flag in flags:
            mount_ffi.fsconfig_flag(context, flag)
        mount_ffi.fsconfig_create(context)
        return mount_ffi.fsmount(context, executable=executable)
    finally:
        os.close(context)


def _old_mount(fuse_fd: int, root_mode: int, path: str) -> None:
    options = [f"{key}={value}" for key, value in _options(fuse_fd, root_mode).items()]
    flags = mount_ffi.MS_NOSUID | mount_ffi.MS_NODEV | mount_ffi.MS_NOEXEC
    mount_ffi.mount(SOURCE, path, f"fuse.{SUBTYPE}", flags, ",".join([*options, *_FLAGS]))
