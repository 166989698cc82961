"""The tree as a file system: FUSE by pyfuse3, on trio.

The process that serves must never wait for its own files, for then nobody could end it: what
answers requests asks daemons by their sockets and looks at nothing else, and no mount point is
taken under which those sockets would be looked for.
"""

import errno
import itertools
import logging
import os
import signal
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import pyfuse3

from kvmshim.control import address
from kvmshim.loop import trio
from kvmshim.observe import tree
from kvmshim.observe.daemon import ObserveError
from kvmshim.observe.inodes import Inodes

_OPTIONS: Final = {*pyfuse3.default_options, "fsname=kvmshim", "ro"}
_LOG: Final = logging.getLogger(__name__)
_T = TypeVar("_T")


def serve(mountpoint: Path, ready: Callable[[], None]) -> None:
    """Serve until a signal or an unmount from outside; `ready` is called once it can be read.

    ObserveError: the mount point will not do, or FUSE is not to be had.
    """
    _check(mountpoint)
    try:
        pyfuse3.init(_Files(), str(mountpoint), _OPTIONS)
    except RuntimeError as error:
        raise ObserveError(
            f"cannot mount on {mountpoint}: {error}; `kvmshim check` says whether FUSE is there"
        ) from error
    try:
        trio.run(_serve, ready)
    finally:
        pyfuse3.close()


def _check(mountpoint: Path) -> None:
    if address.is_watched(mountpoint):
        raise ObserveError(f"{mountpoint} is where daemons have their sockets; take another place")
    try:
        if os.listdir(mountpoint):
            raise ObserveError(f"{mountpoint} is not empty; make an empty directory to mount on")
    except OSError as error:
        raise ObserveError(f"cannot mount on {mountpoint}: {error.strerror}") from error


async def _serve(ready: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_at_signal)
        ready()
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


async def _end_at_signal() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            pyfuse3.terminate()
            return


class _Files(pyfuse3.Operations):
    """Names and snapshots on request; what is open keeps what was found when it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self._inodes = Inodes(pyfuse3.ROOT_INODE)
        self._handles = itertools.count(1)
        self._files: dict[int, tuple[int, bytes]] = {}
        self._directories: dict[int, tuple[tree.Path, list[str]]] = {}

    async def lookup(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.EntryAttributes:
        path = (*self._inodes.path(parent_inode), os.fsdecode(name))
        await _found(tree.check, path)
        return _attributes(path, self._inodes.know(path))

    async def getattr(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.EntryAttributes:
        path = self._inodes.path(inode)
        if inode not in {opened for opened, _ in self._files.values()}:
            await _found(tree.check, path)
        return _attributes(path, inode)

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        for inode, times in inode_list:
            self._inodes.forget(inode, times)

    async def opendir(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.FileHandleT:
        path = self._inodes.path(inode)
        names = await _found(tree.names, path)
        handle = pyfuse3.FileHandleT(next(self._handles))
        self._directories[handle] = (path, names)
        return handle

    async def readdir(
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        path, names = self._directories[fh]
        for number, name in enumerate(names[start_id:], start_id + 1):
            entry = (*path, name)
            inode = self._inodes.know(entry)
            attributes = _attributes(entry, inode)
            if not pyfuse3.readdir_reply(token, _file_name(name), attributes, number):
                self._inodes.forget(inode, 1)
                break

    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        del self._directories[fh]

    async def open(
        self,
        inode: pyfuse3.InodeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        contents = await _found(tree.contents, self._inodes.path(inode))
        handle = pyfuse3.FileHandleT(next(self._handles))
        self._files[handle] = (inode, contents)
        # The size is known to who reads only, as with files of /proc.
        return pyfuse3.FileInfo(fh=handle, direct_io=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        return self._files[fh][1][off : off + size]

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        del self._files[fh]


async def _found(ask: Callable[[tree.Path], _T], path: tree.Path) -> _T:
    """What daemons say of a path, which others need not wait for."""
    try:
        return await trio.to_thread.run_sync(ask, path)
    except tree.NoSuchFileError as error:
        raise pyfuse3.FUSEError(errno.ENOENT) from error
    except Exception as error:
        _LOG.exception("%s cannot be shown", "/".join(path))
        raise pyfuse3.FUSEError(errno.EIO) from error


def _file_name(name: str) -> pyfuse3.FileNameT:
    return pyfuse3.FileNameT(os.fsencode(name))


def _attributes(path: tree.Path, inode: int) -> pyfuse3.EntryAttributes:
    """Nothing is to be kept: VMs come and go."""
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = pyfuse3.InodeT(inode)
    directory = tree.is_directory(path)
    attributes.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o500 if directory else stat.S_IFREG | 0o400)
    attributes.st_nlink = 2 if directory else 1
    attributes.st_uid, attributes.st_gid = os.getuid(), os.getgid()
    attributes.entry_timeout = attributes.attr_timeout = 0
    return attributes
