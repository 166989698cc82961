"""`--cpu`: guests see the vendor that was asked for."""

import sys

import pytest

from tests.cli.environment import kvmshim
from tests.server import ROOT

pytestmark = [pytest.mark.usefixtures("guarded", "clients"), pytest.mark.slow]

PRINT_VENDOR = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.kvm import System
leaf = next(e for e in System("/dev/kvm").supported_cpuid() if e.function == 0)
print(b"".join(w.to_bytes(4, "little") for w in (leaf.ebx, leaf.edx, leaf.ecx)).decode())
"""


@pytest.mark.parametrize(
    ("cpu", "vendor"), [("intel", "GenuineIntel"), ("amd", "AuthenticAMD")], ids=["intel", "amd"]
)
def test_supported_leaves_are_those_of_the_vendor(cpu: str, vendor: str) -> None:
    result = kvmshim("run", "--cpu", cpu, "--", sys.executable, "-c", PRINT_VENDOR)
    assert (result.returncode, result.stdout) == (0, f"{vendor}\n"), result.stderr


def test_another_maker_is_a_usage_error() -> None:
    result = kvmshim("run", "--cpu", "via", "--", "true")
    assert (result.returncode, result.stdout) == (2, "")
