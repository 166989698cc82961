"""kvmtool (`lkvm run`), where it is on PATH: Debian does not have it.

It enters the kernel's 16-bit code with a few BIOS calls of its own, and asks the host's CPUID
whether it can virtualize. It has no ACPI, and Debian's kernel reads no MP tables: Linux uses one
processor. The guest ends by a reset through the keyboard controller, and kvmtool with it.
"""

import shutil
from pathlib import Path
from typing import Final

from tools.guests.catalogue import Case
from tools.guests.files import Files
from tools.guests.guest import Guest

_MEGABYTES: Final = "256"
_CPUS_OF_LINUX: Final = 1


def missing(case: Case) -> str:
    """It is built from its source, outside of this repository."""
    return "" if shutil.which(case.machine) else f"there is no {case.machine} on PATH"


def start(case: Case, files: Files, scratch: Path, log: Path) -> Guest:
    """See `guest.Vmm`. The machine is the program: `lkvm` or `lkvm-static`."""
    checks = ",".join(case.all_checks)
    words = ["console=ttyS0", "panic=-1", f"guest.checks={checks}"]
    words += [f"guest.cpus={_CPUS_OF_LINUX}", "guest.end=reboot"]
    network = "user" if "virtio-net-of-lkvm" in case.devices else "none"
    command: list[str | Path] = [
        # It has a socket in the home directory, which stays when it is killed.
        *("/usr/bin/env", f"HOME={scratch}"),
        *(case.machine, "run", "--name", scratch.name),
        *("--cpus", str(case.smp), "--mem", _MEGABYTES, "--console", "serial"),
        *("--kernel", files.kernel, "--initrd", files.initramfs, "--params", " ".join(words)),
        *("--network", f"mode={network}"),
    ]
    if "virtio-blk" in case.devices:
        command += ["--disk", files.data_disk(scratch / "data")]
    if "virtio-rng" in case.devices:
        command += ["--rng"]
    return Guest(command, log, options=case.kvmshim)
