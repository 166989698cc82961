"""The programs of tests/clients in containers without privilege, against a bind-mounted device."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmshim.device.mount_table import all_mounts
from tests import programs
from tests.container.bundle import add_user_namespace, configuration, run_container, write_bundle
from tests.server import Server, public_directory, serving

pytestmark = [
    pytest.mark.usefixtures("guarded", "clients"),
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("crun") is None, reason="crun is not installed"),
    pytest.mark.skipif(
        not any(mount.kind in ("cgroup", "cgroup2") for mount in all_mounts()),
        reason="no cgroup file system is mounted",
    ),
]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where a bundle is made."""
    with public_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def server_for_all() -> Iterator[Server]:
    """A device that every user may open."""
    with serving("--mode", "0666") as server:
        yield server


@pytest.mark.parametrize("linkage", programs.LINKAGES, ids=["dynamic", "static"])
@pytest.mark.parametrize("name", programs.NAMES)
def test_program_runs_as_root_of_a_container(
    directory: Path, device_path: Path, name: str, linkage: str
) -> None:
    write_bundle(directory, configuration(device_path, f"{name}{linkage}", uid=0))
    result = run_container(directory)
    assert (result.returncode, result.stdout) == (0, programs.expected_output(name)), result.stderr


@pytest.mark.parametrize("linkage", programs.LINKAGES, ids=["dynamic", "static"])
@pytest.mark.parametrize("name", programs.NAMES)
def test_program_runs_as_an_ordinary_user_of_a_container(
    directory: Path, server_for_all: Server, name: str, linkage: str
) -> None:
    write_bundle(directory, configuration(server_for_all.path, f"{name}{linkage}", uid=1000))
    result = run_container(directory)
    assert (result.returncode, result.stdout) == (0, programs.expected_output(name)), result.stderr


@pytest.mark.parametrize("linkage", programs.LINKAGES, ids=["dynamic", "static"])
def test_program_runs_in_a_user_namespace(
    directory: Path, server_for_all: Server, linkage: str
) -> None:
    config = configuration(server_for_all.path, f"demo{linkage}", uid=0)
    add_user_namespace(config)
    write_bundle(directory, config)
    result = run_container(directory)
    assert (result.returncode, result.stdout) == (0, programs.expected_output("demo"))


def test_ordinary_user_is_kept_from_a_device_for_root(directory: Path, device_path: Path) -> None:
    write_bundle(directory, configuration(device_path, "demo", uid=1000))
    result = run_container(directory)
    assert (result.returncode, result.stdout) == (1, "")
    assert "Permission denied" in result.stderr


def test_other_file_is_not_taken_for_the_device(directory: Path) -> None:
    not_kvm = directory / "kvm"
    not_kvm.touch()
    write_bundle(directory, configuration(not_kvm, "demo", uid=0))
    assert run_container(directory).returncode == 77
