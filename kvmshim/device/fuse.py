"""The FUSE door: a file that answers KVM's ioctls, mounted over a path.

The mount's root is the file itself. Ioctls of a FUSE file are restricted: the kernel copies what
the number's size and direction bits say, for which we have no use, and hands us the argument.
"""

import errno
import os
import stat
from collections.abc import Callable

from kvmshim.device import mount_ffi
from kvmshim.device.door import Access, DoorError
from kvmshim.device.files import system_node
from kvmshim.device.fuse_ffi import ROOT_INODE, FileAttributes
from kvmshim.device.janitor import Expect, Leftover, answers, is_placeholder, remove
from kvmshim.device.mount import mount_file, open_fuse_device
from kvmshim.device.mount_table import KVMSHIM_TYPE, top_mount
from kvmshim.device.session import Session
from kvmshim.device.workplace import Workplace

_MAX_THREADS = 64


class FuseDoor:
    """`kvmshim serve --fuse PATH`."""

    def __init__(self, path: str, access: Access, workplace: Workplace, expect: Expect) -> None:
        self._path = os.path.abspath(path)
        self._access = access
        self._workplace = workplace
        self._expect = expect

    @property
    def label(self) -> str:
        """Where clients find it and by what means."""
        return f"{self._path} (FUSE)"

    def check(self) -> None:
        """Take off what a crashed run left on the path; DoorError if a live one serves there."""
        while (mount := top_mount(self._path)) is not None and mount.kind == KVMSHIM_TYPE:
            if answers(self._path):
                raise DoorError(
                    f"{self._path} is served by another kvmshim; stop that one or take another path"
                )
            mount_ffi.unmount(self._path)

    def open(self, on_end: Callable[[], None]) -> None:
        """Mount and serve."""
        try:
            self._make_placeholder()
            fuse_fd = open_fuse_device()
        except OSError as error:
            raise DoorError(f"cannot open the FUSE door: {error}") from error
        access = self._access
        attributes = FileAttributes(ROOT_INODE, stat.S_IFREG | access.mode, access.uid, access.gid)
        session = Session("kvmshim", max_threads=_MAX_THREADS, on_end=on_end)
        self._expect(Leftover("mount", self._path))
        try:
            mount_file(fuse_fd, self._path)
        except OSError as error:
            os.close(fuse_fd)
            raise DoorError(f"cannot mount on {self._path}: {error.strerror}") from error
        session.start_files(fuse_fd, {b"": system_node(self._workplace, attributes)})
        try:
            # In a user namespace the root inode is nobody's until the kernel has asked us for its
            # owner, and nobody's files cannot be opened for writing.
            self._workplace.opener.stat(self._path)
        except OSError as error:
            raise DoorError(f"{self._path} does not answer: {error.strerror}") from error

    def close(self) -> None:
        """Unmount, which ends the session once no client has the file open."""
        remove(Leftover("mount", self._path), dead_only=False)

    def _make_placeholder(self) -> None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            self._expect(Leftover("placeholder", self._path))
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
            return
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._path)
        if is_placeholder(self._path):
            # A run that was killed together with its janitor made it.
            self._expect(Leftover("placeholder", self._path))
