"""Which of our files a client's descriptor is; proc(5) fdinfo.

A file that an ioctl makes is alone on its mount, so the mount's number names it. Reading that asks
nobody who serves the file, unlike stat(2) of it.
"""

import errno
import re
import threading

from kvmshim.dispatch.request import Kept
from kvmshim.errors import KvmError

_MOUNT = re.compile(rb"^mnt_id:\s*(\d+)$", re.MULTILINE)


class KeptFiles:
    """The files that exist; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_mount: dict[int, Kept] = {}

    def add(self, fd: int, kept: Kept) -> None:
        """Our `fd` is the file of `kept` until it is forgotten."""
        mount = _mount_of("self", fd)
        with self._lock:
            self._by_mount[mount] = kept

    def forget(self, kept: Kept) -> None:
        """The file is closed, or was never there."""
        with self._lock:
            self._by_mount = {key: it for key, it in self._by_mount.items() if it is not kept}

    def find(self, process: int, fd: int) -> Kept | None:
        """What descriptor `fd` of a process stands for; None: no file of ours. EBADF."""
        mount = _mount_of(str(process), fd)
        with self._lock:
            return self._by_mount.get(mount)


def _mount_of(process: str, fd: int) -> int:
    try:
        with open(f"/proc/{process}/fdinfo/{fd}", "rb") as info:
            found = _MOUNT.search(info.read())
    except OSError as error:
        raise KvmError(errno.EBADF, f"fd {fd} of process {process}") from error
    return int(found[1]) if found else -1
