"""Runs in the environment of hyperlight-sandbox, below `kvmshim run`: sandboxes one after another.

Usage: sandboxes.py WARM_UP NUMBER. Prints JSON: how long each took, and what this process and its
parent, which is kvmshim, had after WARM_UP sandboxes and at the end.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Final

from hyperlight_sandbox import Sandbox  # type: ignore[import-not-found]

SECONDS_TO_GO: Final = 20.0
"""In which the server has to have given back what a VM had that its client has closed."""


def main() -> None:
    """One sandbox, one program, one answer; again."""
    warm_up, number = map(int, sys.argv[1:])
    seconds = []
    for value in range(number):
        if value == warm_up:
            before = _holdings()
        begin = time.monotonic()
        result = Sandbox().run(f"print({value} * {value})")
        assert (result.exit_code, result.stdout) == (0, f"{value * value}\n"), result
        seconds.append(time.monotonic() - begin)
    json.dump({"seconds": seconds, "before": before, "after": _holdings()}, sys.stdout)


def _holdings() -> dict[str, dict[str, int]]:
    server = os.getppid()
    deadline = time.monotonic() + SECONDS_TO_GO
    while _has_vm(server) and time.monotonic() < deadline:
        os.sched_yield()
    return {"client": _of(os.getpid()), "server": _of(server)}


def _has_vm(server: int) -> bool:
    """Whether anything of a VM is mapped: one goes after the close() that its client sees."""
    maps = Path(f"/proc/{server}/maps").read_text().splitlines()
    return any("/memfd:kvmshim-" in line and "-cpuid" not in line for line in maps)


def _of(pid: int) -> dict[str, int]:
    process = Path(f"/proc/{pid}")
    maps = (process / "maps").read_text()
    status = (process / "status").read_text().splitlines()
    resident = next(line for line in status if line.startswith("VmRSS:"))
    return {
        "descriptors": len(os.listdir(process / "fd")),
        "threads": len(os.listdir(process / "task")),
        "memfds": maps.count("/memfd:kvmshim"),
        "mappings": maps.count("\n"),
        "resident_kib": int(resident.split()[1]),
    }


if __name__ == "__main__":
    main()
