"""Runs in the throw-away machine: serves /dev/kvm by CUSE, runs every client against it, and the
tests of bad input, which reach an ioctl of each shape.

Prints as JSON what each client did, name to exit status, output, errors; and so what pytest did.
"""

import json
import subprocess
import sys
from typing import Final

from tests import programs
from tests.ioctl.rows import ROWS

DEVICE: Final = "/dev/kvm"

BAD_INPUT: Final = [
    f"tests/ioctl/test_{subject}.py"
    for subject in ("bad_lists", "bad_numbers", "bad_pointers", "bad_values", "inner_pointers")
]
SAMPLE: Final = {row.shape_name: row.label for row in ROWS}
"""An ioctl of each shape: all of them would take minutes here."""


def main() -> None:
    """Serve, run, stop, tell."""
    command = [sys.executable, "-m", "kvmshim", "serve", "--cuse"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    ready = server.stdout.readline()
    results = {
        f"{name}{linkage}": _run(f"{name}{linkage}")
        for name in programs.NAMES
        for linkage in programs.LINKAGES
    }
    bad_input = _pytest(BAD_INPUT)
    server.terminate()
    json.dump(
        {"ready": ready, "status": server.wait(), "clients": results, "bad_input": bad_input},
        sys.stdout,
    )


def _run(client: str) -> tuple[int, str, str]:
    return _told([str(programs.BINARIES / client), DEVICE])


def _pytest(files: list[str]) -> tuple[int, str, str]:
    # The root file system is that of the machine outside, which keeps its cache to itself.
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "--device",
        DEVICE,
        "-k",
        " or ".join(SAMPLE.values()),
    ]
    return _told([sys.executable, "-m", "pytest", *options, *files])


def _told(command: list[str]) -> tuple[int, str, str]:
    ended = subprocess.run(
        command, env=programs.ENVIRONMENT, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout, ended.stderr


if __name__ == "__main__":
    main()
