"""The guard that lets a selftest start only where kvmshim answers."""

from pathlib import Path

import pytest

from kvmshim.abi.ioctls_gen import KVM_CHECK_EXTENSION
from kvmshim.abi.limits import KVMSHIM_CAP_IDENTITY
from tools.report import Verdict
from tools.selftests import guard
from tools.selftests.run import run

TRUE = Path("/bin/true")


def test_numbers_are_those_of_the_abi() -> None:
    assert guard.KVM_CHECK_EXTENSION == KVM_CHECK_EXTENSION
    assert guard.KVMSHIM_CAP_IDENTITY == KVMSHIM_CAP_IDENTITY


@pytest.mark.usefixtures("guarded")
def test_kvmshim_is_known(device_path: Path) -> None:
    assert guard.is_kvmshim(str(device_path))


@pytest.mark.parametrize("content", [None, ""], ids=["no file", "plain file"])
def test_nothing_else_is(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "kvm"
    if content is not None:
        path.write_text(content)
    assert not guard.is_kvmshim(str(path))


@pytest.mark.slow
@pytest.mark.usefixtures("guarded")
def test_program_starts_below_kvmshim_run(tmp_path: Path) -> None:
    outcome = run(TRUE, [], 30, tmp_path / "log")
    assert (outcome.verdict, (tmp_path / "log").read_text()) == (Verdict.PASS, "")
