"""Where control sockets are: one a daemon, in a directory that only its user may enter.

`KVMSHIM_CONTROL_DIR` names the directory. Else it is `/run/kvmshim/control` for root; for others
`kvmshim` in `XDG_RUNTIME_DIR`, or `/tmp/kvmshim-UID` where there is none.
"""

import contextlib
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

VARIABLE: Final = "KVMSHIM_CONTROL_DIR"
_SUFFIX: Final = ".sock"
_LONGEST_PATH: Final = 107
"""Bytes of a path in `sockaddr_un`."""


class AddressError(Exception):
    """There is no place for a socket; says why."""


def own_directory() -> Path:
    """Where a daemon of this user has its socket. It need not exist."""
    return _candidates()[0]


def _candidates() -> list[Path]:
    """Where daemons of this user may be, those of its own environment first."""
    if named := os.environ.get(VARIABLE):
        return [Path(named)]
    uid = os.geteuid()
    if uid == 0:
        return [Path("/run/kvmshim/control")]
    runtime = [Path(directory) for directory in (os.environ.get("XDG_RUNTIME_DIR"),) if directory]
    usual = [*runtime, Path(f"/run/user/{uid}")]
    found = [directory / "kvmshim" for directory in dict.fromkeys(usual) if _is_private(directory)]
    return [*found, Path(f"/tmp/kvmshim-{uid}")]


def _of_all_users() -> list[Path]:
    """Where root looks."""
    if VARIABLE in os.environ:
        return []
    users = (name for name in _names("/run/user") if name.isdecimal())
    others = (name for name in _names("/tmp") if re.fullmatch(r"kvmshim-\d+", name))
    return [
        *(Path(f"/run/user/{uid}/kvmshim") for uid in users),
        *(Path(f"/tmp/{name}") for name in others),
    ]


def _names(directory: str) -> list[str]:
    """What is there, without a look at it."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def is_watched(path: Path) -> bool:
    """Whether `sockets` looks at a directory, or below it."""
    watched = [*_candidates(), *(_of_all_users() if os.geteuid() == 0 else [])]
    real = path.resolve()
    return any(real in (there, *there.parents) for there in (it.resolve() for it in watched))


def _is_private(directory: Path) -> bool:
    """Whether it is a directory of ours that nobody else may enter."""
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return ours and not status.st_mode & 0o077


def prepare(directory: Path) -> None:
    """Make the directory, and remove what daemons left there that are gone.

    AddressError: it cannot be made, or others may enter it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise AddressError(f"{directory}: {error.strerror}") from error
    if not _is_private(directory):
        raise AddressError(f"{directory} is not a directory that only its owner may enter")
    for path in directory.glob(f"*{_SUFFIX}"):
        if not is_served(path):
            with contextlib.suppress(OSError):
                path.unlink()


def is_served(path: Path) -> bool:
    """Whether somebody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def listen(directory: Path) -> tuple[socket.socket, Path]:
    """A socket that listens in a directory that is prepared, and its path.

    It has its name only once it listens, so that nobody takes it for a dead one. AddressError.
    """
    pid = os.getpid()
    nascent = directory / f".{pid}"
    if len(os.fsencode(nascent)) + len(_SUFFIX) + 8 > _LONGEST_PATH:
        raise AddressError(f"{directory}: the path is too long for a socket; set {VARIABLE}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        nascent.unlink(missing_ok=True)
        listener.bind(str(nascent))
        nascent.chmod(0o600)
        listener.listen()
        path = _free_name(directory, pid)
        nascent.rename(path)
    except OSError as error:
        listener.close()
        raise AddressError(f"{directory}: {error.strerror}") from error
    return listener, path


def _free_name(directory: Path, pid: int) -> Path:
    # Daemons of several PID namespaces may share the directory.
    names = (f"{pid}{beside}{_SUFFIX}" for beside in ("", *(f"-{n}" for n in range(1, 100))))
    return next(path for path in (directory / name for name in names) if not path.exists())


def sockets() -> Iterator[Path]:
    """The sockets of all daemons that this user may ask: its own, and everybody's for root."""
    others = _of_all_users() if os.geteuid() == 0 else []
    for directory in dict.fromkeys([*_candidates(), *others]):
        with contextlib.suppress(OSError):
            yield from sorted(directory.glob(f"*{_SUFFIX}"))
