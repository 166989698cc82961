"""The mount and the session that one file made by an ioctl lives on; no path leads there.

The session begins when the file is made and ends with the file's last use, which is when what it
stands for is let go.
"""

import errno
import os
import threading
from collections.abc import Callable

from kvmshim.client.served import SERVED
from kvmshim.device.fuse_ffi import FileAttributes, NativeSlot, Pending
from kvmshim.device.mount import mount_detached, open_fuse_device
from kvmshim.device.opener import OpenedFile, Opener
from kvmshim.device.session import Node, OpenFile, Session

FILE_INODE = 2
_MAX_THREADS = 16
"""Of one session: a KVM_RUN, the ioctls that wait behind it, faults and interrupts."""
_WRITABLE = 0o200


class PrivateMount:
    """One file's."""

    def __init__(self, name: str, opener: Opener, on_end: Callable[[], None]) -> None:
        """`on_end` is called once, when nobody uses the file any more or it could not be made."""
        self._name = name
        self._opener = opener
        self._on_end = on_end
        self._lock = threading.Lock()
        self._mount_fd = -1
        self._taken = False
        self.session = Session(name, max_threads=_MAX_THREADS, on_end=self._ended)
        self.opened: OpenedFile | None = None
        """The file as it was opened; None until then."""

    def open(
        self,
        file: OpenFile,
        *,
        mode: int,
        size: int = 0,
        inode: int = FILE_INODE,
        native: NativeSlot | None = None,
        direct: bool = False,
    ) -> OpenedFile:
        """Start the session and open `file` there; the caller owns the descriptor.

        It is writable as `mode` says for its owner, and cached unless `direct`. OSError.
        """
        attributes = FileAttributes(inode, mode, os.getuid(), os.getgid(), size)
        try:
            self._start(Node(attributes, lambda pending: self._take(file, pending), direct), native)
        except BaseException:
            self.release()
            self._on_end()
            raise
        try:
            writable = bool(mode & _WRITABLE)
            self.opened = self._opener.open(self._mount_fd, self._name, writable=writable)
        except BaseException:
            self.release()
            raise
        SERVED.add(self.opened.device)
        return self.opened

    def release(self) -> None:
        """Let go of the mount, which ends the session. Idempotent."""
        with self._lock:
            mount_fd, self._mount_fd = self._mount_fd, -1
        if mount_fd >= 0:
            os.close(mount_fd)

    def _ended(self) -> None:
        if self.opened is not None:
            SERVED.remove(self.opened.device)
        self._on_end()

    def _start(self, node: Node, native: NativeSlot | None) -> None:
        fuse_fd = open_fuse_device()
        try:
            self._mount_fd = mount_detached(fuse_fd)
            self.session.start_files(fuse_fd, {self._name.encode(): node}, native)
        except BaseException:
            os.close(fuse_fd)
            raise

    def _take(self, file: OpenFile, pending: Pending) -> OpenFile:
        """The one open there is. Through `/proc/PID/fd` anyone who may trace the client could ask
        for more; KVM's own files refuse that with ENXIO too."""
        with self._lock:
            if self._taken or pending.sender.tid != self._opener.tid:
                raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
            self._taken = True
        return file
