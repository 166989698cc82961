"""Runs in the throw-away machine: serves /dev/kvm by CUSE and runs every client against it.

Prints what each client did as JSON: name to exit status, output, errors.
"""

import json
import subprocess
import sys

from tests import programs


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
    server.terminate()
    json.dump({"ready": ready, "status": server.wait(), "clients": results}, sys.stdout)


def _run(client: str) -> tuple[int, str, str]:
    ended = subprocess.run(
        [programs.BINARIES / client, "/dev/kvm"],
        env=programs.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


if __name__ == "__main__":
    main()
