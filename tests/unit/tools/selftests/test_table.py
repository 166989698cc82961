"""What is said of results that nobody expected."""

from pathlib import Path

import pytest

from tools.report import Verdict
from tools.selftests import catalogue, table
from tools.selftests.run import Outcome


@pytest.fixture
def row(tmp_path: Path) -> table.Row:
    path = tmp_path / "catalogue.toml"
    path.write_text('["x86_64/a_test"]\ntier = 1\nexpect = "skip"\nwhy = "no such thing"\n')
    (entry,) = catalogue.load(path)
    return entry, Outcome(entry.name, Verdict.FAIL, "exit status 3", 1.5)


def test_surprise_comes_with_the_end_of_its_log(row: table.Row, tmp_path: Path) -> None:
    words = [f"word {number}" for number in range(100)]
    (tmp_path / "a_test.txt").write_text("\n".join(words))
    heading, *said = table.surprises([row], tmp_path).splitlines()
    assert heading == "! fail    1.5 s  x86_64/a_test  (exit status 3)"
    assert [text.strip() for text in said] == words[-len(said) :]
    assert len(said) > 1


def test_what_is_expected_is_not_said_again(row: table.Row, tmp_path: Path) -> None:
    entry, _ = row
    expected = Outcome(entry.name, Verdict.SKIP, "no such thing", 1.5)
    assert table.surprises([(entry, expected)], tmp_path) == ""
