"""Every program of this folder, dynamic and static, against a served device."""

import subprocess
from pathlib import Path

import pytest

from tests import programs

pytestmark = [pytest.mark.usefixtures("guarded"), pytest.mark.slow]


@pytest.mark.parametrize("linkage", programs.LINKAGES, ids=["dynamic", "static"])
@pytest.mark.parametrize("name", programs.NAMES)
def test_client_prints_what_it_should_and_succeeds(
    clients: Path, device_path: Path, name: str, linkage: str
) -> None:
    result = subprocess.run(
        [clients / f"{name}{linkage}", device_path],
        env=programs.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, programs.expected_output(name)), result.stderr


@pytest.mark.parametrize("name", ["demo", "protected"])
def test_client_refuses_a_device_that_is_not_kvmshim(
    clients: Path, tmp_path: Path, name: str
) -> None:
    not_kvm = tmp_path / "kvm"
    not_kvm.touch()
    result = subprocess.run(
        [clients / name, not_kvm], env=programs.ENVIRONMENT, capture_output=True, check=False
    )
    assert (result.returncode, result.stdout) == (77, b"")
