"""The initramfs of the Linux guests: busybox, a few modules, the scripts in `inside`.

And the payload: a megabyte that the guest finds on disks and on the network, and whose digest it
brings along.
"""

import hashlib
import random
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tools.guests import packages

_INSIDE: Final = Path(__file__).with_name("inside")
_PAYLOAD_BYTES: Final = 1 << 20
_MODULES: Final = (
    "drivers/block/virtio_blk",
    "drivers/char/hw_random/virtio-rng",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_mmio",
    "drivers/virtio/virtio_pci",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_ring",
    "net/core/failover",
)


def payload() -> bytes:
    """The same bytes each time."""
    return random.Random("kvmshim").randbytes(_PAYLOAD_BYTES)


def build(image: Path) -> None:
    """Writes the initramfs, packed. packages.Unavailable."""
    with tempfile.TemporaryDirectory(prefix="kvmshim-guests-") as folder:
        root = Path(folder)
        _fill(root)
        pack(root, image)


def pack(root: Path, image: Path) -> None:
    """Writes the initramfs with the files of a folder."""
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
    archive = subprocess.run(
        ["cpio", "--create", "--format=newc", "--owner=0:0", "--reproducible", "--quiet"],
        cwd=root,
        input="\n".join(names).encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    packed = subprocess.run(["gzip", "-n"], input=archive, stdout=subprocess.PIPE, check=True)
    image.write_bytes(packed.stdout)


def _fill(root: Path) -> None:
    for name in ("init", "checks"):
        shutil.copy(_INSIDE / name, root / name)
    (root / "init").chmod(0o755)
    (root / "bin").mkdir()
    shutil.copy(packages.busybox(), root / "bin/busybox")
    (root / "modules").mkdir()
    for name in _MODULES:
        module = packages.kernel_modules() / "kernel" / f"{name}.ko"
        shutil.copy(module, root / "modules")
    # As sha256sum prints it of its standard input.
    (root / "payload.sha256").write_text(f"{hashlib.sha256(payload()).hexdigest()}  -\n")
