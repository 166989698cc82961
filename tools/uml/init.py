"""Process 1 of the throw-away machine: mount, load CUSE, run the job, power off.

The root is the host's own file system, so `/dev` must be covered before anything else looks there:
the host's device nodes, its `/dev/kvm` among them, are not to be touched.
"""

import os
import subprocess
import sys
import traceback
from pathlib import Path

from tools.uml import kernel_ffi
from tools.uml.job import STDERR, STDOUT, Job, save_status

_MODULES = ("fuse", "cuse")
_FAILED = 125


def _mount(kind: str, path: str) -> None:
    subprocess.run(["mount", "-t", kind, kind, path], check=True)


def _kind_of(path: str) -> str:
    """Type of the file system mounted on `path`, the topmost; empty if there is none."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next((fields[2] for fields in reversed(mounts) if fields[1] == path), "")


def _prepare() -> None:
    _mount("proc", "/proc")
    if _kind_of("/dev") not in ("devtmpfs", "tmpfs"):
        _mount("devtmpfs", "/dev")
    _mount("sysfs", "/sys")
    _mount("tmpfs", "/run")
    os.mkdir("/dev/shm")
    _mount("tmpfs", "/dev/shm")
    os.symlink("/proc/self/fd", "/dev/fd")
    for module in _MODULES:
        kernel_ffi.load_module(
            f"/usr/lib/uml/modules/{os.uname().release}/kernel/fs/fuse/{module}.ko"
        )


def _run(directory: Path) -> int:
    job = Job.load(directory)
    with open(directory / STDOUT, "wb") as out, open(directory / STDERR, "wb") as err:
        return subprocess.run(
            job.argv,
            cwd=job.directory,
            env=job.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            check=False,
        ).returncode


def main() -> None:
    """The machine's whole life."""
    directory = Path(sys.argv[1])
    status = _FAILED
    try:
        _prepare()
        status = _run(directory)
    except Exception:
        (directory / STDERR).write_text(traceback.format_exc())
    finally:
        save_status(directory, status)
        kernel_ffi.power_off()


main()
