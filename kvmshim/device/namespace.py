"""A mount namespace of our own, where `/dev/kvm` can be what we like, and a place to mount it on.

Where mounting is not allowed, a user namespace comes with it, in which we are who we were and may
mount (user_namespaces(7)). Later mounts of the outside still arrive; ours never get out.
"""

import errno
import os
import stat

from kvmshim.device import mount_ffi
from kvmshim.device.mount_table import all_mounts


def enter_private_mounts() -> None:
    """Enter a new mount namespace; the process must have one thread.

    OSError where neither privileges nor user namespaces allow it.
    """
    try:
        mount_ffi.unshare(mount_ffi.CLONE_NEWNS)
    except PermissionError:
        uid, gid = os.getuid(), os.getgid()
        mount_ffi.unshare(mount_ffi.CLONE_NEWUSER | mount_ffi.CLONE_NEWNS)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _keep_mounts_inside()


def _keep_mounts_inside() -> None:
    try:
        mount_ffi.mount("none", "/", "none", mount_ffi.MS_REC | mount_ffi.MS_SLAVE)
    except OSError as error:
        # The root of a chroot need not be a mount; those below it can be named one by one.
        paths = {mount.path for mount in all_mounts()}
        if error.errno != errno.EINVAL or "/dev" not in paths:
            raise
        for path in paths:
            mount_ffi.mount("none", path, "none", mount_ffi.MS_SLAVE)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def provide_mountpoint(directory: str, name: str) -> None:
    """Make sure that `directory` (`/dev`) has an entry `name` to mount over.

    Where it has none, a tmpfs replaces the directory in this namespace, with everything that was
    in it bound into it and an empty file `name`: the outside must not see the new entry.
    """
    if os.path.lexists(f"{directory}/{name}"):
        return
    entries = os.listdir(directory)
    beneath = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mount_ffi.mount("kvmshim", directory, "tmpfs", mount_ffi.MS_NOSUID, "mode=0755")
        for entry in entries:
            _carry_over(beneath, entry, f"{directory}/{entry}")
        _touch(f"{directory}/{name}")
    finally:
        os.close(beneath)


def _carry_over(beneath: int, entry: str, target: str) -> None:
    # Through the descriptor leads the only way to what the tmpfs now hides.
    source = f"/proc/self/fd/{beneath}/{entry}"
    mode = os.lstat(source).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
        return
    if stat.S_ISDIR(mode):
        os.mkdir(target)
    else:
        _touch(target)
    mount_ffi.mount(source, target, "none", mount_ffi.MS_BIND | mount_ffi.MS_REC)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
