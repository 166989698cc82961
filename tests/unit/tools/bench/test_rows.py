"""The programs of the benchmark: compiled, listed, and each done once on this machine."""

from pathlib import Path

import pytest

from tools.bench import rows
from tools.bench.machines import Native
from tools.bench.rows import Row
from tools.guests.console import Failed

NEEDS_BUSYBOX = "busybox"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "programs"
    rows.build(path)
    return path


@pytest.fixture
def native(program: Path, tmp_path: Path) -> Native:
    return Native(program, tmp_path / "no-busybox", tmp_path)


def test_every_row_has_a_name_of_its_own_and_a_time(program: Path) -> None:
    listed = rows.listed(program)
    assert len({row.name for row in listed}) == len(listed) > 40
    assert all(0 < row.milliseconds <= 200 for row in listed)


def test_the_same_count_comes_to_the_same_result(program: Path, native: Native) -> None:
    for row in rows.listed(program):
        if row.group != NEEDS_BUSYBOX:
            first, second = (native.run(row.name, 2) for _ in range(2))
            assert first.digest == second.digest, row.name


def test_the_result_depends_on_the_count(native: Native) -> None:
    assert native.run("alu", 5).digest != native.run("alu", 6).digest


def test_a_row_that_fails_is_not_measured(native: Native) -> None:
    with pytest.raises(Failed, match=r"natively: .*exit status 1"):
        native.run("gzip", 1)
    with pytest.raises(Failed, match=r"natively: .*exit status 2"):
        native.run("no-such-row", 1)


def test_a_list_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "programs"
    path.write_text("#!/bin/sh\necho one group 20\necho two group 40\n")
    path.chmod(0o755)
    assert rows.listed(path) == [Row("one", "group", 20), Row("two", "group", 40)]


def test_an_answer_is_understood() -> None:
    assert rows.sample("alu", "@@ alu 1234 8188092e\r\n") == rows.Sample(1234, "8188092e")


@pytest.mark.parametrize(
    "answer", ["", "@@ failed alu", "@@ alu 1234", "@@ sum-L1 1234 0", "alu 1234 0", "@@ alu -5 0"]
)
def test_another_answer_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match="alu: not an answer"):
        rows.sample("alu", answer)
