"""The C programs of tests/clients: where they are built, what they print."""

import os
import subprocess
from typing import Final

from tests.server import ROOT

SOURCES: Final = ROOT / "tests" / "clients"
BINARIES: Final = ROOT / "build" / "clients"

NAMES: Final = [
    "demo",
    "protected",
    "longmode",
    "threads",
    "signal",
    "foreign_writer",
    "firecracker",
    "cloud_hypervisor",
]
LINKAGES: Final = ["", "-static"]
ENVIRONMENT: Final = os.environ | {"KVMSHIM_EXPECT": "1"}
"""Makes a program refuse every device but kvmshim's."""


def build() -> None:
    subprocess.run(["make", "--silent", "-C", SOURCES], check=True)


def expected_output(name: str) -> str:
    return (SOURCES / "expected" / f"{name}.txt").read_text()
