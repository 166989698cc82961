"""A small Linux: Debian's kernel for clouds, and an initramfs of busybox that says that it is up
and switches the machine off.

The packages are unpacked below `build/guests/packages` and installed nowhere.
"""

import gzip
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final

from tests.server import ROOT

MARK: Final = "@@ up"
_UNPACKED: Final = ROOT / "build" / "guests" / "packages"
_KERNEL: Final = "linux-image-cloud-amd64"
_INIT: Final = f"""\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox echo "{MARK}" >/dev/console
/bin/busybox poweroff -f
"""


class Unavailable(Exception):
    """A package cannot be had; the text says which."""


def kernel() -> Path:
    """The kernel as a boot loader takes it. Unavailable."""
    # Its package is empty: it depends on that of the newest version.
    kept = sorted(path.name for path in _UNPACKED.glob("linux-image-[0-9]*-cloud-amd64"))
    name = kept[-1] if kept else _dependency(_KERNEL)
    (image,) = (_unpacked(name) / "boot").glob("vmlinuz-*")
    return image


def initramfs() -> bytes:
    """The initramfs, packed. Unavailable."""
    busybox = (_unpacked("busybox-static") / "bin/busybox").read_bytes()
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


def _dependency(package: str) -> str:
    said = _apt("apt-cache", "depends", "--important", package)
    names = [line.partition("Depends: ")[2] for line in said.splitlines()]
    return next((name for name in names if name.startswith("linux-image-")), package)


def _unpacked(package: str) -> Path:
    tree = _UNPACKED / package
    if not tree.exists():
        half = tree.with_name(f"{package}.half")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        _apt("apt-get", "-qq", "download", package, directory=half)
        (archive,) = half.glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", archive, half], check=True)
        archive.unlink()
        half.rename(tree)
    return tree


def _apt(*command: str, directory: Path = ROOT) -> str:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"{' '.join(command)} failed") from error
    return done.stdout
