"""Runs in a container: says as a line of JSON what the container may, then becomes the program of
its arguments. It imports nothing of ours."""

import json
import os
import sys
from pathlib import Path
from typing import Any

FORBIDDEN = "/dev/forbidden"
"""A device node that everybody may open, but the container's device cgroup refuses."""


def main() -> None:
    """Tells, then executes."""
    print(json.dumps(facts()), flush=True)
    os.execv(sys.argv[1], sys.argv[1:])


def facts() -> dict[str, Any]:
    """Privileges, namespaces and devices of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        "status": dict(line.split(":\t", 1) for line in lines if ":\t" in line),
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in namespaces()},
        "devices": sorted(entry.name for entry in Path("/dev").iterdir()),
        "forbidden": _errno_of_opening(FORBIDDEN),
    }


def namespaces() -> list[str]:
    """Those that a container has of its own."""
    return ["ipc", "mnt", "net", "pid", "uts"]


def _errno_of_opening(path: str) -> int | None:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return error.errno
    return None


if __name__ == "__main__":
    main()
