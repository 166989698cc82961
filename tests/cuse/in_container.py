"""Runs in the throw-away machine: serves /dev/kvm by CUSE and lets containers have it by number.

Prints as JSON what became of each, name to exit status, output, errors.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.container import qemu
from tests.container.bundle import (
    RUNTIMES,
    add_node,
    configuration,
    missing,
    run_container,
    write_bundle,
)

DEVICE: Final = "/dev/kvm"
_DEVICE_CGROUP: Final = "/sys/fs/cgroup/devices"
_PLACE: Final = "/run"
"""Where files belong to whom they say: the root is the file system of the machine outside."""


def main() -> None:
    """Serve, run, stop, tell."""
    _mount_device_cgroup()
    command = [sys.executable, "-m", "kvmshim", "serve", "--cuse", "--mode", "0666"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    server.stdout.readline()
    number = os.stat(DEVICE).st_rdev
    device = (os.major(number), os.minor(number))
    results = {
        f"{name} {runtime}": _run(config, device, runtime, allowed=name != "refused")
        for runtime in RUNTIMES
        if not missing(runtime)
        for name, config in (("demo", _demo()), ("refused", _demo()))
    }
    results["qemu"] = _run_qemu(device)
    server.terminate()
    server.wait()
    json.dump(results, sys.stdout)


def _mount_device_cgroup() -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup"], check=True)
    os.mkdir(_DEVICE_CGROUP)
    command = ["mount", "-t", "cgroup", "-o", "devices", "devices", _DEVICE_CGROUP]
    subprocess.run(command, check=True)


def _demo() -> dict[str, Any]:
    return configuration(["/clients/demo"], uid=1000)


def _run(
    config: dict[str, Any], device: tuple[int, int], runtime: str, *, allowed: bool
) -> tuple[int, str, str]:
    with tempfile.TemporaryDirectory(prefix="kvmshim-test-", dir=_PLACE) as name:
        directory = Path(name)
        directory.chmod(0o755)
        add_node(config, DEVICE, device, allowed=allowed)
        write_bundle(directory, config)
        ended = run_container(directory, runtime)
        return ended.returncode, ended.stdout, ended.stderr


def _run_qemu(device: tuple[int, int]) -> tuple[int, str, str]:
    with tempfile.TemporaryDirectory(prefix="kvmshim-test-", dir=_PLACE) as files:
        os.chmod(files, 0o755)
        config = qemu.qemu_configuration(Path(files), uid=1000)
        return _run(config, device, "runc", allowed=True)


if __name__ == "__main__":
    main()
