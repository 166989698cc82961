"""`kvmshim abi`: the tables that the documentation shows."""

import pytest

from kvmshim.abi.constants_gen import KVM_CAP_MAX_VCPUS
from kvmshim.abi.limits import KVM_MAX_VCPUS
from tests.cli.environment import kvmshim
from tests.server import ROOT

pytestmark = pytest.mark.usefixtures("guarded")


def test_ioctl_that_is_served() -> None:
    lines = [line.split() for line in kvmshim("abi").stdout.splitlines()]
    assert ["vcpu", "KVM_GET_REGS", "0x8090ae81", "served"] in lines


def test_ioctl_that_is_not_served_says_its_errno_and_why() -> None:
    lines = kvmshim("abi").stdout.splitlines()
    (line,) = [line for line in lines if line.split()[:2] == ["vm", "KVM_XEN_HVM_CONFIG"]]
    assert line.split(maxsplit=4)[3:] == ["ENOTTY", "no Xen interface"]


def test_capability() -> None:
    lines = kvmshim("abi").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("KVM_CAP_MAX_VCPUS ")]
    assert line.split(maxsplit=3)[1:] == [
        str(KVM_CAP_MAX_VCPUS),
        str(KVM_MAX_VCPUS),
        "vCPUs of one VM",
    ]


def test_documentation_has_the_same_tables() -> None:
    result = kvmshim("abi", "--markdown")
    assert result.returncode == 0
    assert (ROOT / "docs/support.md").read_text().endswith(result.stdout.strip() + "\n")
