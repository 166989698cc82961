"""The initramfs of the guests that are measured: the programs, busybox, `inside/init`."""

import shutil
import tempfile
from pathlib import Path
from typing import Final

from tools.guests import initramfs, packages

_INIT: Final = Path(__file__).with_name("inside") / "init"


def build(image: Path, program: Path) -> None:
    """Writes it, packed. packages.Unavailable."""
    with tempfile.TemporaryDirectory(prefix="kvmshim-bench-") as folder:
        root = Path(folder)
        shutil.copy(_INIT, root / "init")
        (root / "init").chmod(0o755)
        shutil.copy(program, root / "programs")
        (root / "bin").mkdir()
        shutil.copy(packages.busybox(), root / "bin/busybox")
        initramfs.pack(root, image)
