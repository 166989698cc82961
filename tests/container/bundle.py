"""An OCI bundle: the host's /usr and the programs of tests/clients read-only, the device, no more.

The container has no capability, cannot gain any, and gets the device as a bind mount; a FUSE file
is no device node, so no rule of a device cgroup is needed either.
"""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from tests import programs

# crun 1.8 refuses hosts with version 1 and 2 of cgroups side by side; it needs neither here.
RUN: Final = """
umount /sys/fs/cgroup/unified 2>/dev/null
exec crun --root "$1/state" --cgroup-manager=disabled run --bundle "$1" "$2"
"""

PRIVATE_MOUNTS: Final = ["unshare", "--mount", "--propagation=private"]
USER_NAMESPACE_START: Final = 100000


def bind(source: Path, destination: str, *options: str) -> dict[str, object]:
    return {
        "type": "bind",
        "source": str(source),
        "destination": destination,
        "options": ["bind", "nosuid", *options],
    }


def configuration(device: Path, program: str, uid: int) -> dict[str, Any]:
    """`config.json` for one program run as `uid` in namespaces of its own."""
    return {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": uid, "gid": uid},
            "args": [f"/clients/{program}"],
            "env": ["PATH=/usr/bin", "KVMSHIM_EXPECT=1"],
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [
            {"type": "proc", "source": "proc", "destination": "/proc"},
            {"type": "tmpfs", "source": "tmpfs", "destination": "/dev"},
            bind(Path("/usr"), "/usr", "ro", "nodev"),
            bind(programs.BINARIES, "/clients", "ro", "nodev"),
            bind(device, "/dev/kvm", "rw", "nodev"),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        },
    }


def add_user_namespace(config: dict[str, Any]) -> None:
    """Makes root of the container an ordinary user of the host."""
    mapping = {"containerID": 0, "hostID": USER_NAMESPACE_START, "size": 65536}
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = [mapping]


def write_bundle(directory: Path, config: dict[str, Any]) -> None:
    root = directory / "rootfs"
    for name in ("usr", "clients", "proc", "dev"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(Path("usr", name))
    (directory / "config.json").write_text(json.dumps(config))


def run_container(directory: Path) -> subprocess.CompletedProcess[str]:
    """Runs the bundle until its program ends.

    Its stdin is a pipe: crun gives the standard files to the container's user, and /dev/null is
    everybody's.
    """
    return subprocess.run(
        [*PRIVATE_MOUNTS, "sh", "-c", RUN, "sh", directory, directory.name],
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
