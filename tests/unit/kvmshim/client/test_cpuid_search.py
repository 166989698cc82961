"""The process that looks for CPUID instructions: its answers, its end and its next life."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmshim.client.cpuid_search import CpuidSearch
from kvmshim.client.cpuid_sites import cpuid_sites
from kvmshim.client.elf import ElfError

LOADER = next(
    Path(line.split()[-1])
    for line in Path("/proc/self/maps").read_text().splitlines()
    if "/ld-linux" in line
)


@pytest.fixture
def search() -> Iterator[CpuidSearch]:
    search = CpuidSearch()
    yield search
    search.close()


def sites(search: CpuidSearch, path: Path) -> tuple[int, ...]:
    with path.open("rb") as file:
        return search.sites(file.fileno())


def children() -> set[int]:
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def test_it_finds_what_is_there(search: CpuidSearch) -> None:
    found = sites(search, LOADER)
    assert found
    assert list(found) == cpuid_sites(LOADER.read_bytes())


def test_what_is_no_program_is_refused(search: CpuidSearch, tmp_path: Path) -> None:
    text, empty = tmp_path / "text", tmp_path / "empty"
    text.write_text("#!/bin/sh\n")
    empty.touch()
    for path in (text, empty):
        with pytest.raises(ElfError):
            sites(search, path)


def test_one_that_has_ended_is_started_again(search: CpuidSearch) -> None:
    before = children()
    sites(search, LOADER)
    (process,) = children() - before
    os.kill(process, signal.SIGKILL)
    assert sites(search, LOADER)
    assert process not in children()


def test_close_leaves_no_process(search: CpuidSearch) -> None:
    before = children()
    sites(search, LOADER)
    assert children() != before
    search.close()
    assert children() == before


def test_who_cannot_execute_python_searches_by_itself(
    search: CpuidSearch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nobodys = tmp_path / "python"
    nobodys.touch(mode=0)
    monkeypatch.setattr("sys.executable", str(nobodys))
    before = children()
    assert sites(search, LOADER)
    assert children() == before
