"""The files that guests boot from, made once a run, and the disks that one guest writes to."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.guests import disk, initramfs, packages

DISK_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class Files:
    """What the guests of a run share; nobody writes to it."""

    kernel: Path
    initramfs: Path
    memtest: Path
    payload: Path
    """A folder with the file `payload`."""

    @classmethod
    def made(cls) -> "Files":
        """All of them, anew where they depend on this tool. packages.Unavailable."""
        packages.install_programs()
        folder = packages.BUILD / "files"
        (folder / "payload").mkdir(parents=True, exist_ok=True)
        (folder / "payload/payload").write_bytes(initramfs.payload())
        initramfs.build(folder / "initramfs.gz")
        return cls(
            packages.kernel(), folder / "initramfs.gz", packages.memtest(), folder / "payload"
        )

    def data_disk(self, path: Path) -> Path:
        """A disk that begins with the payload."""
        shutil.copy(self.payload / "payload", path)
        with path.open("r+b") as file:
            file.truncate(DISK_BYTES)
        return path

    def boot_disk(self, path: Path, command_line: str) -> Path:
        """A disk whose boot loader starts Linux, from BIOS and UEFI."""
        disk.build(path, self.kernel, self.initramfs, command_line)
        return path


def snapshot_disk(path: Path) -> Path:
    """An empty disk that can hold snapshots of machines."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    return path
