"""Where control sockets are, and who may be there."""

import os
import socket
from pathlib import Path

import pytest

from kvmshim.control import address
from kvmshim.control.address import AddressError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that is prepared."""
    directory = tmp_path / "control"
    address.prepare(directory)
    return directory


def test_the_directory_is_its_owners_alone(directory: Path) -> None:
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o710, 0o701, 0o777])
def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(AddressError, match="only its owner"):
        address.prepare(tmp_path)


def test_a_link_to_a_directory_is_refused(tmp_path: Path, directory: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(directory)
    with pytest.raises(AddressError, match="only its owner"):
        address.prepare(link)


def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    os.chown(directory, 12345, 12345)
    with pytest.raises(AddressError, match="only its owner"):
        address.prepare(directory)


def test_what_a_dead_daemon_left_is_removed_and_the_living_stays(directory: Path) -> None:
    listener, alive = address.listen(directory)
    dead = directory / "1.sock"
    with socket.socket(socket.AF_UNIX) as unheard:
        unheard.bind(str(dead))
    with listener:
        address.prepare(directory)
        assert list(directory.iterdir()) == [alive]


def test_two_daemons_of_one_number_have_a_socket_each(directory: Path) -> None:
    first, one = address.listen(directory)
    second, other = address.listen(directory)
    with first, second:
        assert one != other
        assert address.is_served(one)
        assert address.is_served(other)


def test_a_socket_is_its_owners_alone(directory: Path) -> None:
    listener, path = address.listen(directory)
    with listener:
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 100)
    address.prepare(directory)
    with pytest.raises(AddressError, match="too long"):
        address.listen(directory)


def test_the_variable_names_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(address.VARIABLE, "/somewhere")
    assert address.own_directory() == Path("/somewhere")


def test_root_and_others_have_their_usual_places(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(address.VARIABLE, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert address.own_directory() == Path("/run/kvmshim/control")
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert address.own_directory() == Path("/tmp/kvmshim-4711")
    os.chown(tmp_path, 4711, 4711)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert address.own_directory() == tmp_path / "kvmshim"
