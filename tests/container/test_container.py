"""The programs of tests/clients in containers without privilege, against a bind-mounted device."""

from pathlib import Path
from typing import Any

import pytest

from kvmshim.device.mount_table import all_mounts
from tests import programs
from tests.container.bundle import (
    add_file,
    add_user_namespace,
    configuration,
    missing,
    run_container,
    write_bundle,
)
from tests.server import Server

pytestmark = [
    pytest.mark.usefixtures("guarded", "clients"),
    pytest.mark.slow,
    pytest.mark.skipif(missing("crun"), reason="crun is not installed"),
    pytest.mark.skipif(
        not any(mount.kind in ("cgroup", "cgroup2") for mount in all_mounts()),
        reason="no cgroup file system is mounted",
    ),
]


def client(name: str, device: Path, uid: int) -> dict[str, Any]:
    """The configuration for one of the programs."""
    config = configuration([f"/clients/{name}"], uid)
    add_file(config, device)
    return config


@pytest.mark.parametrize("linkage", programs.LINKAGES, ids=["dynamic", "static"])
@pytest.mark.parametrize("name", programs.NAMES)
def test_program_runs_as_root_of_a_container(
    directory: Path, device_path: Path, name: str, linkage: str
) -> None:
    write_bundle(directory, client(f"{name}{linkage}", device_path, uid=0))
    result = run_container(directory)
    assert (result.returncode, result.stdout) == (0, programs.expected_output(name)), result.stderr


@pytest.mark.parametrize("linkage", programs.LINKAGES, ids=["dynamic", "static"])
@pytest.mark.parametrize("name", programs.NAMES)
def test_program_runs_as_an_ordinary_user_of_a_container(
    directory: Path, server_for_all: Server, name: str, linkage: str
) -> None:
    write_bundle(directory, client(f"{name}{linkage}", server_for_all.path, uid=1000))
    result = run_container(directory)
    assert (result.returncode, result.stdout) == (0, programs.expected_output(name)), result.stderr


@pytest.mark.parametrize("linkage", programs.LINKAGES, ids=["dynamic", "static"])
def test_program_runs_in_a_user_namespace(
    directory: Path, server_for_all: Server, linkage: str
) -> None:
    config = client(f"demo{linkage}", server_for_all.path, uid=0)
    add_user_namespace(config)
    write_bundle(directory, config)
    result = run_container(directory)
    assert (result.returncode, result.stdout) == (0, programs.expected_output("demo"))


def test_ordinary_user_is_kept_from_a_device_for_root(directory: Path, device_path: Path) -> None:
    write_bundle(directory, client("demo", device_path, uid=1000))
    result = run_container(directory)
    assert (result.returncode, result.stdout) == (1, "")
    assert "Permission denied" in result.stderr


def test_other_file_is_not_taken_for_the_device(directory: Path) -> None:
    not_kvm = directory / "kvm"
    not_kvm.touch()
    write_bundle(directory, client("demo", not_kvm, uid=0))
    assert run_container(directory).returncode == 77
