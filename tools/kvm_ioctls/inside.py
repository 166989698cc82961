"""`python -m tools.kvm_ioctls.inside PROGRAM`: runs below `kvmshim run`.

Proves that kvmshim answers at /dev/kvm, then runs each test of PROGRAM in a process of its own, so
that one that crashes takes no other with it. Prints a JSON object for each.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.kvm import System

DEVICE: Final = Path("/dev/kvm")
_SECONDS: Final = 60


def main() -> None:
    """All tests of the program, in its order."""
    System(DEVICE).close()  # raises unless kvmshim answers
    program = sys.argv[1]
    for name in _names(program):
        print(json.dumps(_run(program, name)), flush=True)


def _names(program: str) -> list[str]:
    listed = subprocess.run([program, "--list"], check=True, stdout=subprocess.PIPE, text=True)
    return [line.removesuffix(": test") for line in listed.stdout.splitlines() if ": test" in line]


def _run(program: str, name: str) -> dict[str, object]:
    start = time.monotonic()
    try:
        done = subprocess.run(
            [program, "--exact", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
        )
        output, status = done.stdout, done.returncode
    except subprocess.TimeoutExpired:
        output, status = f"not done after {_SECONDS} s", -1
    seconds = time.monotonic() - start
    return {"name": name, "result": _result(output, status), "seconds": seconds, "said": output}


def _result(output: str, status: int) -> str:
    if status != 0:
        return "failed"
    return "ignored" if "1 ignored" in output else "passed"


if __name__ == "__main__":
    main()
