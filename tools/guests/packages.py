"""What the guests are made of: Debian's packages, installed or only unpacked.

Programs are installed where they are missing. What is a guest's own — its kernel, its programs — is
unpacked below `build/guests/packages` and installed nowhere: no machine shall boot it by mistake.
"""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

BUILD: Final = Path(__file__).resolve().parents[2] / "build" / "guests"
_UNPACKED: Final = BUILD / "packages"
_KERNEL: Final = "linux-image-cloud-amd64"
_INSTALLED: Final = {
    "qemu-system-x86": "/usr/bin/qemu-system-x86_64",
    "qemu-utils": "/usr/bin/qemu-img",
    "seabios": "/usr/share/seabios/bios-256k.bin",
    "ovmf": "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "cpio": "/usr/bin/cpio",
    "mtools": "/usr/bin/mformat",
    "grub-common": "/usr/bin/grub-mkimage",
    "grub-pc-bin": "/usr/lib/grub/i386-pc/boot.img",
    "grub-efi-amd64-bin": "/usr/lib/grub/x86_64-efi/linux.mod",
    "gdb": "/usr/bin/gdb",
}
"""By package, a file that says that it is there."""


class Unavailable(Exception):
    """Something cannot be had; the text says what to do."""


def install_programs() -> None:
    """Installs what is missing of the programs. Unavailable."""
    missing = [name for name, file in _INSTALLED.items() if not Path(file).exists()]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"the guests need these Debian packages: {' '.join(missing)}")
    print(f"Installing {' '.join(missing)} for the guests", flush=True)
    for command in (["update"], ["install", "--no-install-recommends", *missing]):
        _apt("apt-get", "-qq", *command)


def kernel() -> Path:
    """A Linux kernel as a boot loader takes it. Unavailable."""
    (image,) = (_kernel_tree() / "boot").glob("vmlinuz-*")
    return image


def kernel_modules() -> Path:
    """The folder of the modules of `kernel`. Unavailable."""
    (modules,) = (_kernel_tree() / "lib/modules").iterdir()
    return modules


def busybox() -> Path:
    """One program, statically linked, that is a shell and its tools. Unavailable."""
    return unpacked("busybox-static") / "bin/busybox"


def memtest() -> Path:
    """Memtest86+ as a boot loader takes it. Unavailable."""
    return unpacked("memtest86+") / "boot/memtest86+x64.bin"


def versions() -> str:
    """Which QEMU and which kernel."""
    query = ["dpkg-query", "--show", "--showformat=${Package} ${Version}", "qemu-system-x86"]
    qemu = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    return f"{qemu}, Linux {kernel_modules().name}"


@cache
def _kernel_tree() -> Path:
    # The package is empty: it depends on that of the newest version.
    kept = sorted(_UNPACKED.glob("linux-image-[0-9]*-cloud-amd64"))
    if kept:
        return kept[-1]
    said = _apt("apt-cache", "depends", "--important", _KERNEL)
    names = [line.partition("Depends: ")[2] for line in said.splitlines()]
    real = [name for name in names if name.startswith("linux-image-")]
    if not real:
        raise Unavailable(f"apt-cache knows no {_KERNEL}")
    return unpacked(real[0])


@cache
def unpacked(package: str) -> Path:
    """The folder with the files of a package, fetched once. Unavailable."""
    tree = _UNPACKED / package
    if tree.exists():
        return tree
    _UNPACKED.mkdir(parents=True, exist_ok=True)
    for old in _UNPACKED.glob(f"{package}_*.deb"):
        old.unlink()
    _apt("apt-get", "-qq", "download", package, directory=_UNPACKED)
    (archive,) = _UNPACKED.glob(f"{package}_*.deb")
    half = tree.with_name(f"{package}.unpacking")
    shutil.rmtree(half, ignore_errors=True)
    subprocess.run(["dpkg-deb", "--extract", archive, half], check=True)
    archive.unlink()
    half.rename(tree)
    return tree


def _apt(*command: str, directory: Path | None = None) -> str:
    """What it prints. Unavailable, with what went wrong."""
    if not shutil.which(command[0]):
        raise Unavailable(f"there is no {command[0]} to fetch the guests' packages with")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        raise Unavailable(f"{' '.join(command)} failed:\n{result.stdout[-2000:]}")
    return result.stdout
