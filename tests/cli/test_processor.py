"""`--cpu` and `--code-cache`: guests get the processor that was asked for."""

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


@pytest.mark.parametrize("mib", ["0", "-1", "1025", "much"])
def test_a_code_cache_of_no_possible_size_is_a_usage_error(mib: str) -> None:
    result = kvmshim("run", f"--code-cache={mib}", "--", "true")
    assert (result.returncode, result.stdout) == (2, "")
    assert "MiB from 1 to 1024" in result.stderr


def test_a_code_cache_of_some_size_is_served_with() -> None:
    result = kvmshim("run", "--code-cache", "1", "--", sys.executable, "-c", PRINT_VENDOR)
    assert result.returncode == 0, result.stderr
