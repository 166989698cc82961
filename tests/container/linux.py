"""An initramfs of busybox that says that Linux is up and switches the machine off."""

import gzip
import stat
from typing import Final

from tools.guests import packages

MARK: Final = "@@ up"
_INIT: Final = f"""\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox echo "{MARK}" >/dev/console
/bin/busybox poweroff -f
"""


def initramfs() -> bytes:
    """The initramfs, packed. packages.Unavailable."""
    busybox = packages.busybox().read_bytes()
    return gzip.compress(
        _entry("dev", stat.S_IFDIR | 0o755)
        + _entry("bin", stat.S_IFDIR | 0o755)
        + _entry("bin/busybox", stat.S_IFREG | 0o755, busybox)
        + _entry("init", stat.S_IFREG | 0o755, _INIT.encode())
        + _entry("TRAILER!!!", 0)
    )


def _entry(name: str, mode: int, data: bytes = b"") -> bytes:
    """A file in the format of Documentation/driver-api/early-userspace/buffer-format.rst, c_magic
    070701: thirteen numbers in hexadecimal, the name, the data, each padded to four bytes."""
    path = name.encode() + b"\0"
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + "".join(f"{number:08x}" for number in numbers).encode() + path
    return _padded(header) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
