"""Runs every rule and lists what breaks it; exit status 1 when something does."""

import sys
from pathlib import Path

from tools.check import crates, sizes, unsafe

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Prints one line per finding, `path: sentence`."""
    findings = [*crates.findings(ROOT), *sizes.findings(ROOT), *unsafe.findings(ROOT)]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
