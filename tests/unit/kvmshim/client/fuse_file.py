"""A raw FUSE server with one file, enough to see page faults; linux/fuse.h, protocol 7.31.

The file may be mapped by other processes only: a process that maps a file it serves itself can end
up waiting for itself in its own exit.
"""

import ctypes
import errno
import os
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

INODE: Final = 2
NAME: Final = "page"

_LOOKUP, _GETATTR, _OPEN, _READ, _WRITE, _RELEASE, _FLUSH, _INIT = 1, 3, 14, 15, 16, 18, 25, 26
_NO_REPLY: Final = frozenset({2, 36, 42})  # FORGET, INTERRUPT, BATCH_FORGET
_NOTIFY_INVAL_INODE: Final = 2
_IN_HEADER: Final = struct.Struct("<IIQQIIIHH")
_OUT_HEADER: Final = struct.Struct("<IiQ")
_ATTR: Final = struct.Struct("<QQQQQQIIIIIIIIII")
_MNT_FORCE: Final = 1
_MNT_DETACH: Final = 2
_PAGE: Final = 4096

OnRead = Callable[[int, int, Callable[[], None]], None]


class FuseFile:
    """The contents of `source`, an fd; `on_read(tid, st_dev, answer)` is called for each read, in a
    thread of its own, and must call `answer`."""

    def __init__(self, directory: Path, source: int, on_read: OnRead) -> None:
        self.path = directory / NAME
        self._directory = directory
        self._source = source
        self._size = os.fstat(source).st_size
        self._on_read = on_read
        self._readers: list[threading.Thread] = []
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> Self:
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        mounted = self._libc.mount(
            b"test", bytes(self._directory), b"fuse.test", 0, options.encode()
        )
        assert mounted == 0, os.strerror(ctypes.get_errno())
        self._server = threading.Thread(target=self._serve)
        self._server.start()
        self._device = os.stat(self._directory).st_dev
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # By force: the connection ends though a client still has the file open.
        self._libc.umount2(bytes(self._directory), _MNT_FORCE | _MNT_DETACH)
        self._server.join()
        for reader in self._readers:
            reader.join()
        os.close(self._fd)

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._fd, 1 << 17)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return  # ENODEV: unmounted or aborted
            self._handle(request)

    def _handle(self, request: bytes) -> None:
        _, operation, unique, node, _, _, tid, _, _ = _IN_HEADER.unpack_from(request)
        body = request[_IN_HEADER.size :]
        if operation == _READ:
            reader = threading.Thread(target=self._read, args=(unique, tid, body))
            self._readers.append(reader)
            reader.start()
        elif operation == _INIT:
            flags = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 16, 12, 65536, 1, 1, 0, 0)
            self._reply(unique, flags[:64])
        elif operation == _LOOKUP and body.rstrip(b"\0") == NAME.encode():
            self._reply(unique, struct.pack("<QQQQII", INODE, 0, 99, 99, 0, 0) + self._attr(INODE))
        elif operation == _GETATTR:
            self._reply(unique, struct.pack("<QII", 99, 0, 0) + self._attr(node))
        elif operation == _OPEN:
            self._reply(unique, struct.pack("<QII", 0, 0, 0))
        elif operation == _WRITE:
            (size,) = struct.unpack_from("<16xI", body)
            self._reply(unique, struct.pack("<II", size, 0))
        elif operation in (_RELEASE, _FLUSH):
            self._reply(unique, b"")
        elif operation not in _NO_REPLY:
            self._reply(unique, b"", -errno.ENOSYS)

    def _attr(self, node: int) -> bytes:
        mode = 0o040755 if node == 1 else 0o100666
        size = 0 if node == 1 else self._size
        return _ATTR.pack(node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, _PAGE, 0)

    def _read(self, unique: int, tid: int, body: bytes) -> None:
        _, offset, size = struct.unpack_from("<QQI", body)
        data = os.pread(self._source, size, offset)
        self._on_read(tid, self._device, lambda: self._reply(unique, data))
        self._invalidate()

    def _invalidate(self) -> None:
        body = struct.pack("<Qqq", INODE, 0, 0)
        header = _OUT_HEADER.pack(_OUT_HEADER.size + len(body), _NOTIFY_INVAL_INODE, 0)
        with suppress(OSError):  # the file was forgotten, or the connection ended
            os.write(self._fd, header + body)

    def _reply(self, unique: int, data: bytes, error: int = 0) -> None:
        os.write(self._fd, _OUT_HEADER.pack(_OUT_HEADER.size + len(data), error, unique) + data)
