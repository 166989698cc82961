"""An OCI bundle: the host's /usr and the programs of tests/clients read-only, the device, no more.

The container has no capability, cannot gain any, and may open no device but the usual ones (null,
zero, full, random, urandom, tty). Served over FUSE, the device is a file that is bind-mounted, for
which no rule of a device cgroup is needed; over CUSE it is a node, and needs one.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests import programs
from tests.container.seccomp import PROFILE

RUNTIMES: Final = ("crun", "runc")

# crun 1.8 refuses hosts with version 1 and 2 of cgroups side by side.
RUN: Final = """
umount /sys/fs/cgroup/unified 2>/dev/null
exec "$1" --root "$2/state" run --bundle "$2" "$3"
"""

PRIVATE_MOUNTS: Final = ["unshare", "--mount", "--propagation=private"]
USER_NAMESPACE_START: Final = 100000


def missing(runtime: str) -> bool:
    """Whether it cannot be run here."""
    return shutil.which(runtime) is None


def bind(source: Path, destination: str, *options: str) -> dict[str, object]:
    return {
        "type": "bind",
        "source": str(source),
        "destination": destination,
        "options": ["bind", "nosuid", *options],
    }


def configuration(command: Sequence[str], uid: int) -> dict[str, Any]:
    """`config.json` for one program run as `uid` in namespaces of its own, without the device."""
    return {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": uid, "gid": uid},
            "args": list(command),
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
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "devices": [],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "seccomp": PROFILE,
        },
    }


def add_file(config: dict[str, Any], device: Path) -> None:
    """The device as `kvmshim serve --fuse` makes it."""
    config["mounts"].append(bind(device, "/dev/kvm", "rw", "nodev"))


def add_node(config: dict[str, Any], path: str, number: tuple[int, int], *, allowed: bool) -> None:
    """A character device by its number, with or without the rule that lets it be opened."""
    major, minor = number
    node = {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666}
    config["linux"]["devices"].append(node)
    if allowed:
        rule = {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rw"}
        config["linux"]["resources"]["devices"].append(rule)


def add_user_namespace(config: dict[str, Any]) -> None:
    """Makes root of the container an ordinary user of the host."""
    mapping = {"containerID": 0, "hostID": USER_NAMESPACE_START, "size": 65536}
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = [mapping]


def write_bundle(directory: Path, config: dict[str, Any]) -> None:
    root = directory / "rootfs"
    for name in ("usr", "clients", "guest", "proc", "dev"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(Path("usr", name))
    config["linux"]["cgroupsPath"] = f"/{directory.name}"
    (directory / "config.json").write_text(json.dumps(config))


def run_container(directory: Path, runtime: str = "crun") -> subprocess.CompletedProcess[str]:
    """Runs the bundle until its program ends.

    Its stdin is a pipe: crun gives the standard files to the container's user, and /dev/null is
    everybody's.
    """
    return subprocess.run(
        [*PRIVATE_MOUNTS, "sh", "-c", RUN, "sh", runtime, directory, directory.name],
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
