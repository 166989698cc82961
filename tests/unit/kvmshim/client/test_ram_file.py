"""The files that get under clients' memory."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmshim.client.ram_file import NAME, RamFiles


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def name_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def test_files_with_large_pages_are_in_the_directory(directory: int, tmp_path: Path) -> None:
    files = RamFiles(lambda: directory)
    for _ in range(2):
        assert name_of(files.new(large=True)) == f"{tmp_path}/{NAME} (deleted)"
    assert not list(tmp_path.iterdir())


def test_other_files_need_no_directory() -> None:
    def make_directory() -> int:
        raise AssertionError("nobody asked for large pages")

    for files in (RamFiles(), RamFiles(make_directory)):
        assert name_of(files.new(large=False)) == f"/memfd:{NAME} (deleted)"


def test_without_a_directory_pages_are_small_and_nobody_asks_again() -> None:
    asked = []

    def make_directory() -> int:
        asked.append(1)
        raise PermissionError("mounts are forbidden")

    files = RamFiles(make_directory)
    for _ in range(2):
        assert name_of(files.new(large=True)) == f"/memfd:{NAME} (deleted)"
    assert asked == [1]
    assert name_of(RamFiles().new(large=True)) == f"/memfd:{NAME} (deleted)"


def test_a_file_is_closed_on_exec(directory: int) -> None:
    for files in (RamFiles(), RamFiles(lambda: directory)):
        fd = files.new(large=True)
        assert not os.get_inheritable(fd)
        os.close(fd)
