"""QEMU with Linux in a container, and what must be true of such a container."""

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.container import inside, linux
from tests.container.bundle import add_node, bind, configuration
from tools.guests import packages
from tools.selftests import guard

QEMU: Final = "qemu-system-x86_64"
_PYTHON: Final = shutil.which("python3", path="/usr/bin:/usr/local/bin") or "/usr/bin/python3"
_FUSE_DEVICE: Final = (10, 229)
_USUAL_DEVICES: Final = {
    *("null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"),
    *("fd", "core", "stdin", "stdout", "stderr"),
}


def qemu_configuration(directory: Path, uid: int) -> dict[str, Any]:
    """A container that tells what it may, asks whether /dev/kvm is kvmshim's and boots Linux with
    it; without the device. packages.Unavailable."""
    files = directory / "guest"
    files.mkdir()
    for source in (Path(inside.__file__), Path(guard.__file__), packages.kernel()):
        shutil.copy(source, files)
    (files / "initramfs.gz").write_bytes(linux.initramfs())
    command = [
        *(_PYTHON, "-I", "-S", "/guest/inside.py"),
        *(_PYTHON, "-I", "-S", "/guest/guard.py"),
        *(f"/usr/bin/{QEMU}", "-accel", "kvm", "-m", "256", "-no-reboot", "-nodefaults"),
        *("-display", "none", "-serial", "stdio", "-append", "console=ttyS0 panic=-1"),
        *("-kernel", f"/guest/{packages.kernel().name}", "-initrd", "/guest/initramfs.gz"),
    ]
    config = configuration(command, uid)
    config["mounts"].append(bind(files, "/guest", "ro", "nodev"))
    # What only the device cgroup keeps it from.
    add_node(config, inside.FORBIDDEN, _FUSE_DEVICE, allowed=False)
    return config


def check(result: subprocess.CompletedProcess[str]) -> None:
    """That the guest came up and switched itself off, and that the container has no privilege."""
    first, _, console = result.stdout.partition("\n")
    assert result.returncode == 0, result.stdout + result.stderr
    assert linux.MARK in console
    assert "reboot: Power down" in console
    _check_privileges(json.loads(first))


def _check_privileges(facts: dict[str, Any]) -> None:
    status = facts["status"]
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    for name, namespace in facts["namespaces"].items():
        assert namespace != os.readlink(f"/proc/self/ns/{name}")
    assert set(facts["devices"]) - _USUAL_DEVICES == {"kvm", Path(inside.FORBIDDEN).name}
    assert facts["forbidden"] == errno.EPERM
