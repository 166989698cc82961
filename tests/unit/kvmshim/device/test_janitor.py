"""What the janitor takes for a leftover of ours."""

import os
from pathlib import Path

import pytest

from kvmshim.device.janitor import Leftover, is_placeholder, remove


def placeholder(path: Path) -> Path:
    path.touch(mode=0)
    path.chmod(0)
    return path


def test_placeholder_is_removed(tmp_path: Path) -> None:
    path = placeholder(tmp_path / "kvm")
    remove(Leftover("placeholder", str(path)), dead_only=True)
    assert not path.exists()


@pytest.mark.parametrize(("mode", "content"), [(0o600, ""), (0, "x"), (0o100, "x")])
def test_file_of_somebody_else_is_kept(tmp_path: Path, mode: int, content: str) -> None:
    path = tmp_path / "kvm"
    path.write_text(content)
    path.chmod(mode)
    remove(Leftover("placeholder", str(path)), dead_only=False)
    assert path.exists()


def test_symlink_and_directory_are_no_placeholders(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(placeholder(tmp_path / "kvm"))
    assert not is_placeholder(str(tmp_path / "link"))
    assert not is_placeholder(str(tmp_path))


def test_path_without_a_mount_is_left_alone(tmp_path: Path) -> None:
    remove(Leftover("mount", str(tmp_path)), dead_only=False)
    assert tmp_path.is_dir()


def test_thing_that_is_gone_is_no_error(tmp_path: Path) -> None:
    for kind in ("mount", "placeholder", "node"):
        remove(Leftover(kind, str(tmp_path / "gone"), 1), dead_only=True)


def test_node_of_another_device_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "node"
    path.touch()
    remove(Leftover("node", str(path), os.makedev(252, 0)), dead_only=False)
    assert path.exists()
