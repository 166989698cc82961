"""libfuse3's low-level API as typed Python: the only file that names its symbols.

cffi in ABI mode, so no compiler is needed where kvmshim is installed. The laws kept here: every
request that reaches Python gets exactly one reply, whatever a handler does; no Python exception
enters libfuse; a callback lives as long as its session. `dlsym` finds a symbol's default version,
so `fuse_session_loop_mt` is FUSE_3.12's, which takes an opaque configuration.
"""

import errno
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol

from kvmshim.device import fuse_gen

LIBRARY = "libfuse3.so.3"
OLDEST_VERSION = 313
FIRST_UNKNOWN_VERSION = 317
"""libfuse 3.17 changes structures, and the library's name with them."""
ROOT_INODE = 1
CUSE_UNRESTRICTED_IOCTL = 1
FUSE_CAP_ATOMIC_O_TRUNC = 1 << 3
FOREVER_S = 1e9
"""How long the kernel may keep names and attributes: ours never change."""

_log = logging.getLogger(__name__)
_ffi: Final[Any] = fuse_gen.ffi


@cache
def _library() -> Any:
    return _ffi.dlopen(LIBRARY)


def version() -> int:
    """libfuse's version as MAJOR * 100 + MINOR.

    OSError where the library is missing, or one whose structures are not those of `fuse.h`.
    """
    found = int(_library().fuse_version())
    if not OLDEST_VERSION <= found < FIRST_UNKNOWN_VERSION:
        raise OSError(errno.ENOTSUP, f"{LIBRARY} has version {found}")
    return found


def addresses_for_door() -> tuple[int, ...]:
    """The functions that a native ioctl slot calls, in the order of `struct kvmshim_fuse`."""
    names = (
        "fuse_reply_ioctl",
        "fuse_reply_err",
        "fuse_req_interrupt_func",
        "fuse_req_userdata",
        "fuse_req_ctx",
    )
    library = _library()
    return tuple(_address(_ffi.addressof(library, name)) for name in names)


def size_and_offsets(struct: str) -> tuple[int, dict[str, int]]:
    """Size of a declared struct and the offset of each member; bit fields are left out."""
    kind = _ffi.typeof(f"struct {struct}")
    offsets = {name: field.offset for name, field in kind.fields if field.bitsize < 0}
    return _ffi.sizeof(kind), offsets


def noflush_bit() -> int:
    """`fuse_file_info.noflush` in the word of bit fields that follows `flags`."""
    info = _ffi.new("struct fuse_file_info *")
    info.noflush = 1
    return int(_ffi.cast("unsigned *", info)[1])


@dataclass(frozen=True, slots=True)
class FileAttributes:
    """What stat(2) shows of a served file."""

    inode: int
    mode: int
    """Type and permissions."""
    uid: int = 0
    gid: int = 0
    size: int = 0
    """Bytes; the part beyond it cannot be touched through a mapping."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who made a request, in the terms of this process's namespaces."""

    tid: int
    """Thread id; 0 where the sender lives outside our PID namespace."""
    uid: int
    gid: int


class Pending:
    """A request that waits for its one reply. Any thread may give it; the first one counts."""

    __slots__ = ("_lock", "_request", "answered", "sender")

    def __init__(self, request: Any) -> None:
        self._request = request
        self._lock = threading.Lock()
        self.answered = False
        context = _library().fuse_req_ctx(request)
        self.sender = Sender(context.pid, context.uid, context.gid)

    def error(self, number: int) -> None:
        """Refuse the request with errno `number`."""
        self._reply(_library().fuse_reply_err, number)

    def entry(self, attributes: FileAttributes) -> None:
        """Answer a lookup."""
        entry = _ffi.new("struct fuse_entry_param *")
        entry.ino = attributes.inode
        _fill_stat(entry.attr, attributes)
        entry.attr_timeout = entry.entry_timeout = FOREVER_S
        self._reply(_library().fuse_reply_entry, entry)

    def attributes(self, attributes: FileAttributes) -> None:
        """Answer a getattr."""
        stat = _ffi.new("struct stat *")
        _fill_stat(stat, attributes)
        self._reply(_library().fuse_reply_attr, stat, FOREVER_S)

    def opened(self, handle: int, *, direct: bool = False) -> bool:
        """Answer an open. False if the opener has gone: no release will follow.

        Of a `direct` file the kernel caches nothing, so that every read(2) comes here.
        Closing sends no FLUSH (FOPEN_NOFLUSH), so that a process never waits for us in its exit.
        """
        info = _ffi.new("struct fuse_file_info *")
        info.fh = handle
        info.noflush = 1
        info.direct_io = direct
        return self._reply(_library().fuse_reply_open, info) == 0

    def data(self, data: bytes) -> None:
        """Answer a read."""
        self._reply(_library().fuse_reply_buf, data, len(data))

    def written(self, size: int) -> None:
        """Answer a write: `size` bytes were taken."""
        self._reply(_library().fuse_reply_write, size)

    def result(self, value: int) -> None:
        """Answer an ioctl: its return value, or a negative errno. Nothing is copied out."""
        self._reply(_library().fuse_reply_ioctl, value, _ffi.NULL, 0)

    def _reply(self, function: Any, *arguments: Any) -> int:
        with self._lock:
            if self.answered:
                raise AssertionError("a request was answered twice")
            self.answered = True
        return int(function(self._request, *arguments))


def _fill_stat(stat: Any, attributes: FileAttributes) -> None:
    stat.st_ino = attributes.inode
    stat.st_mode = attributes.mode
    stat.st_nlink = 1
    stat.st_uid = attributes.uid
    stat.st_gid = attributes.gid
    stat.st_size = attributes.size
    stat.st_blksize = 4096


class Handlers(Protocol):
    """What a session does with its requests. Each call replies before it returns."""

    def initialised(self) -> None:
        """The kernel has shaken hands; for CUSE, the device exists."""

    def lookup(self, pending: Pending, name: bytes) -> None:
        """Find a name in the root directory."""

    def getattr(self, pending: Pending, inode: int) -> None:
        """stat(2)."""

    def open(self, pending: Pending, inode: int) -> None:
        """Make an open file and answer with its handle."""

    def read(self, pending: Pending, handle: int, span: slice) -> None:
        """A page that is mapped, or read(2): the bytes of `span`."""

    def allocate(self, pending: Pending, handle: int, mode: int, span: slice) -> None:
        """fallocate(2) of the bytes of `span`."""

    def release(self, pending: Pending, handle: int) -> None:
        """The last descriptor and mapping of an open file are gone."""

    def ioctl(self, pending: Pending, handle: int, command: int, argument: int) -> None:
        """ioctl(2). `command` is 32 bits, `argument` 64: a value or the sender's address."""


@dataclass(frozen=True, slots=True)
class NativeSlot:
    """C functions for a session's ioctls, and what they find as the session's user data.

    All are addresses in this process. The functions have the types of `fuse_lowlevel_ops.ioctl` and
    `fuse_custom_io`.
    """

    function: int
    userdata: int
    read: int
    writev: int


def _guarded(name: str, handler: Callable[..., None]) -> Callable[..., None]:
    """`handler` as libfuse may call it: a fault is logged, and EIO is the reply of last resort."""

    def call(request: Any, *arguments: Any) -> None:
        pending = Pending(request)
        try:
            handler(pending, *arguments)
        except BaseException as fault:
            _log_once(name, pending, fault)
        if not pending.answered:
            pending.error(errno.EIO)

    return call


def _write(pending: Pending, size: int, writepage: int) -> None:
    """Refuse write(2). A page that the kernel writes back was stored in before its mapping was
    exchanged, and what was stored has been carried over."""
    if writepage:
        pending.written(size)
    else:
        pending.error(errno.EINVAL)


@cache
def _first_of_its_kind(_name: str, _fault: str) -> threading.Lock:
    return threading.Lock()


def _log_once(name: str, pending: Pending, fault: BaseException) -> None:
    """Log the first fault of a kind: a client may repeat what provokes it."""
    # The lock is never released.
    if _first_of_its_kind(name, type(fault).__name__).acquire(blocking=False):
        _log.error("%s request of thread %d failed", name, pending.sender.tid, exc_info=fault)


_FILE_SLOTS = (
    "init",
    "lookup",
    "forget",
    "getattr",
    "setattr",
    "open",
    "read",
    "write",
    "fallocate",
    "release",
    "ioctl",
)


class Callbacks:
    """The C functions of one session, made from its handlers. They must outlive the session."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        opened = _guarded("open", handlers.open)
        read = _guarded("read", handlers.read)
        setattr_ = _guarded("setattr", lambda pending: pending.error(errno.EINVAL))
        allocate = _guarded("fallocate", handlers.allocate)
        release = _guarded("release", handlers.release)
        lookup = _guarded("lookup", handlers.lookup)
        getattr_ = _guarded("getattr", handlers.getattr)
        ioctl = _guarded("ioctl", handlers.ioctl)
        write = _guarded("write", _write)
        self._slots: dict[str, Any] = {}

        def slot(kind: str, name: str, function: Callable[..., None]) -> None:
            self._slots[name] = _ffi.callback(kind, function)

        slot("init_slot", "init", self._init)
        slot("lookup_slot", "lookup", lambda req, _, name: lookup(req, _ffi.string(name)))
        slot("forget_slot", "forget", lambda req, *_: _library().fuse_reply_none(req))
        slot("file_slot", "getattr", lambda req, ino, _: getattr_(req, ino))
        slot("file_slot", "open", lambda req, ino, _: opened(req, ino))
        slot(
            "read_slot", "read", lambda req, _, size, at, fi: read(req, fi.fh, slice(at, at + size))
        )
        slot(
            "write_slot", "write", lambda req, _, __, size, ___, fi: write(req, size, fi.writepage)
        )
        slot(
            "allocate_slot",
            "fallocate",
            lambda req, _, mode, at, size, fi: allocate(req, fi.fh, mode, slice(at, at + size)),
        )
        slot("setattr_slot", "setattr", lambda req, *_: setattr_(req))
        slot("file_slot", "release", lambda req, _, fi: release(req, fi.fh))
        slot(
            "ioctl_slot",
            "ioctl",
            lambda req, _, cmd, arg, fi, *__: ioctl(req, fi.fh, cmd, _address(arg)),
        )
        slot("device_ready_slot", "device_ready", lambda _: handlers.initialised())
        slot("device_file_slot", "device_open", lambda req, _: opened(req, ROOT_INODE))
        slot("device_file_slot", "device_release", lambda req, fi: release(req, fi.fh))
        slot(
            "device_ioctl_slot",
            "device_ioctl",
            lambda req, cmd, arg, fi, *_: ioctl(req, fi.fh, cmd & 0xFFFFFFFF, _address(arg)),
        )

    def _init(self, _: Any, connection: Any) -> None:
        # Without readahead a fault is one read by the faulting thread, which its sender names.
        connection.max_readahead = 0
        connection.want = connection.capable & FUSE_CAP_ATOMIC_O_TRUNC
        self._handlers.initialised()

    @property
    def ioctl_address(self) -> int:
        """Address of the C function behind which `Handlers.ioctl` stands."""
        return _address(self._slots["ioctl"])

    def file_operations(self, native: NativeSlot | None) -> Any:
        """The table of a FUSE session; `native` takes the ioctls where it is given."""
        table = {name: self._slots[name] for name in _FILE_SLOTS}
        if native is not None:
            table["ioctl"] = _ffi.cast("ioctl_slot", native.function)
        return _ffi.new("struct fuse_lowlevel_ops *", table)

    def device_operations(self) -> Any:
        """The table of a CUSE session."""
        return _ffi.new(
            "struct cuse_lowlevel_ops *",
            {
                "init_done": self._slots["device_ready"],
                "open": self._slots["device_open"],
                "release": self._slots["device_release"],
                "ioctl": self._slots["device_ioctl"],
            },
        )


def _address(pointer: Any) -> int:
    return int(_ffi.cast("uintptr_t", pointer))


class Connection:
    """A libfuse session on an open `/dev/fuse` or `/dev/cuse`, which it owns from then on."""

    def __init__(
        self,
        session: Any,
        keep: tuple[Any, ...],
        device_fd: int,
        native: NativeSlot | None = None,
    ) -> None:
        if session == _ffi.NULL:
            raise OSError(errno.EINVAL, "libfuse refuses to make a session")
        self._session = session
        self._keep = keep
        if _adopt(session, device_fd, native) != 0:
            _library().fuse_session_destroy(session)
            raise OSError(errno.EBADF, f"libfuse refuses descriptor {device_fd}")

    @classmethod
    def files(cls, callbacks: Callbacks, native: NativeSlot | None, fuse_fd: int) -> "Connection":
        """A FUSE session."""
        version()
        operations = callbacks.file_operations(native)
        arguments, argv = _arguments()
        userdata = _ffi.cast("void *", native.userdata if native else 0)
        session = _library().fuse_session_new(
            arguments, operations, _ffi.sizeof("struct fuse_lowlevel_ops"), userdata
        )
        return cls(session, (callbacks, arguments, argv), fuse_fd, native)

    @classmethod
    def device(cls, callbacks: Callbacks, name: str, cuse_fd: int) -> "Connection":
        """A CUSE session; the device is called `name` and its number is the kernel's choice."""
        version()
        operations = callbacks.device_operations()
        arguments, argv = _arguments()
        label = _ffi.new("char[]", f"DEVNAME={name}".encode())
        labels = _ffi.new("const char *[]", [label])
        info = _ffi.new(
            "struct cuse_info *",
            {"dev_info_argc": 1, "dev_info_argv": labels, "flags": CUSE_UNRESTRICTED_IOCTL},
        )
        session = _library().cuse_lowlevel_new(arguments, info, operations, _ffi.NULL)
        return cls(session, (callbacks, arguments, argv), cuse_fd)

    def loop(self, max_threads: int) -> int:
        """Serve with up to `max_threads` threads until the kernel ends the connection.

        Returns 0, or a negative errno from reading the device.
        """
        config = _library().fuse_loop_cfg_create()
        try:
            _library().fuse_loop_cfg_set_max_threads(config, max_threads)
            return int(_library().fuse_session_loop_mt(self._session, config))
        finally:
            _library().fuse_loop_cfg_destroy(config)

    def drop_pages(self, inode: int, span: slice) -> None:
        """Make the kernel forget what it caches of a file. Not while a read of `span` waits."""
        length = span.stop - span.start
        _library().fuse_lowlevel_notify_inval_inode(self._session, inode, span.start, length)

    def destroy(self) -> None:
        """Free the session and close its device; the kernel aborts what still waits."""
        _library().fuse_session_destroy(self._session)


def _adopt(session: Any, device_fd: int, native: NativeSlot | None) -> int:
    """Have `session` own `device_fd`, and `native` read from it. 0, or not."""
    if native is None:
        # A mountpoint of this form makes libfuse adopt the descriptor and mount nothing.
        return int(_library().fuse_session_mount(session, b"/dev/fd/%d" % device_fd))
    io = _ffi.new("struct fuse_custom_io *")
    io.read = _ffi.cast("void *", native.read)
    io.writev = _ffi.cast("void *", native.writev)
    return int(_library().fuse_session_custom_io(session, io, device_fd))


def _arguments() -> tuple[Any, Any]:
    name = _ffi.new("char[]", b"kvmshim")
    argv = _ffi.new("char *[]", [name, _ffi.NULL])
    return _ffi.new("struct fuse_args *", {"argc": 1, "argv": argv}), (argv, name)
