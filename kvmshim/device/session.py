"""One connection to the kernel, its files and the threads that serve it.

Three shapes share it: the FUSE door (the root is a regular file), the CUSE door (a device) and the
private sessions behind them (a directory with one file). The session keeps an object per open
file, calls it, and lets it go exactly once: on RELEASE, or when the connection ends without one,
which the kernel allows itself when the last reference to the mount goes.
"""

import errno
import itertools
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kvmshim.device.fuse_ffi import (
    ROOT_INODE,
    Callbacks,
    Connection,
    FileAttributes,
    NativeSlot,
    Pending,
)

_log = logging.getLogger(__name__)


class OpenFile(Protocol):
    """What one open file does. Every method may be called by several threads at once."""

    def ioctl(self, pending: Pending, command: int, argument: int) -> None:
        """Answer an ioctl."""

    def read(self, pending: Pending, span: slice) -> None:
        """Answer a page fault of a mapping, or a read(2)."""

    def allocate(self, pending: Pending, mode: int, span: slice) -> None:
        """Answer fallocate(2)."""

    def release(self) -> None:
        """Called once, after the last use."""


@dataclass(frozen=True, slots=True)
class Node:
    """A file that can be opened."""

    attributes: FileAttributes
    open: Callable[[Pending], OpenFile]
    """Makes the open file. OSError refuses with its errno."""
    direct: bool = False
    """The kernel caches nothing of it."""


class Session:
    """A connection and its files. Ends when the kernel ends the connection: no mount is left."""

    def __init__(
        self, label: str, *, max_threads: int, on_end: Callable[[], None] = lambda: None
    ) -> None:
        """`label` names it in logs and thread lists. `on_end` runs when all is released."""
        self._label = label
        self._max_threads = max_threads
        self._nodes: Mapping[bytes, Node] = {}
        self._by_inode: dict[int, Node] = {}
        self._on_end = on_end
        self._handles = itertools.count(1)
        self._open_files: dict[int, OpenFile] = {}
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self.ready = threading.Event()
        """The kernel has answered; a CUSE device exists."""
        self.callbacks = Callbacks(self)

    def start_files(
        self, fuse_fd: int, nodes: Mapping[bytes, Node], native: NativeSlot | None = None
    ) -> None:
        """Serve `nodes` by name on an open `/dev/fuse`. The name b"" is the root itself.

        The session owns `fuse_fd` once this returns. `native` takes the ioctls if it is given.
        """
        connection = Connection.files(self.callbacks, native, fuse_fd)
        self._start(connection, nodes)

    def start_device(self, cuse_fd: int, name: str, node: Node) -> None:
        """Serve `node` on an open `/dev/cuse` as the device `name`."""
        connection = Connection.device(self.callbacks, name, cuse_fd)
        self._start(connection, {b"": node})

    def drop_pages(self, inode: int, span: slice) -> None:
        """Make the kernel forget what it caches of a file. Not while a read of `span` waits."""
        if self._connection is not None:
            self._connection.drop_pages(inode, span)

    def _start(self, connection: Connection, nodes: Mapping[bytes, Node]) -> None:
        self._nodes = nodes
        self._by_inode = {node.attributes.inode: node for node in nodes.values()}
        self._connection = connection
        self._thread = threading.Thread(
            target=self._serve, args=(connection,), name=self._label, daemon=True
        )
        self._thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            status = connection.loop(self._max_threads)
            if status < 0:
                _log.error("%s: the FUSE connection failed: errno %d", self._label, -status)
            connection.destroy()
        finally:
            for handle in list(self._open_files):
                self._let_go(handle)
            self._on_end()

    def _let_go(self, handle: int) -> None:
        try:
            self._open_files.pop(handle).release()
        except Exception:
            _log.exception("%s: release failed", self._label)

    # The handlers that `Callbacks` calls, each on a thread of libfuse.

    def initialised(self) -> None:
        self.ready.set()

    def lookup(self, pending: Pending, name: bytes) -> None:
        node = self._nodes.get(name)
        if node is None or not name:
            pending.error(errno.ENOENT)
        else:
            pending.entry(node.attributes)

    def getattr(self, pending: Pending, inode: int) -> None:
        node = self._by_inode.get(inode)
        if node is not None:
            pending.attributes(node.attributes)
        elif inode == ROOT_INODE:
            pending.attributes(FileAttributes(ROOT_INODE, 0o40700, os.getuid(), os.getgid()))
        else:
            pending.error(errno.ENOENT)

    def open(self, pending: Pending, inode: int) -> None:
        node = self._by_inode.get(inode)
        if node is None:
            pending.error(errno.ENOENT)
            return
        try:
            opened = node.open(pending)
        except OSError as error:
            pending.error(error.errno or errno.EIO)
            return
        handle = next(self._handles)
        self._open_files[handle] = opened
        if not pending.opened(handle, direct=node.direct):
            self._let_go(handle)

    def read(self, pending: Pending, handle: int, span: slice) -> None:
        self._open_files[handle].read(pending, span)

    def allocate(self, pending: Pending, handle: int, mode: int, span: slice) -> None:
        self._open_files[handle].allocate(pending, mode, span)

    def ioctl(self, pending: Pending, handle: int, command: int, argument: int) -> None:
        self._open_files[handle].ioctl(pending, command, argument)

    def release(self, pending: Pending, handle: int) -> None:
        # The file is gone for its client whatever we do, so it need not wait for us.
        pending.error(0)
        self._let_go(handle)
