"""The catalogue of selftests: complete, and strict about what it says."""

from pathlib import Path

import pytest

from tools.report import Verdict
from tools.selftests import catalogue

PROGRAMS_OF_LINUX_6_1 = 68


def load(tmp_path: Path, text: str) -> list[catalogue.Entry]:
    path = tmp_path / "catalogue.toml"
    path.write_text(text)
    return catalogue.load(path)


def test_every_program_has_an_entry() -> None:
    entries = catalogue.load()
    assert len({entry.path for entry in entries}) == PROGRAMS_OF_LINUX_6_1
    assert {entry.tier for entry in entries} == {1, 2, 3, 4, 5, 6}


def test_defaults(tmp_path: Path) -> None:
    (entry,) = load(tmp_path, '["x86_64/a_test"]\ntier = 2\n')
    assert (entry.name, entry.tier, entry.ci, entry.arguments) == ("a_test", 2, True, [])
    assert entry.expected == {Verdict.PASS}


def test_patience_multiplies_the_time_that_one_may_take(tmp_path: Path) -> None:
    (entry,) = load(tmp_path, "[a]\ntier = 1\nseconds = 7\n")
    assert entry.with_patience(3).limit_seconds == 3 * entry.limit_seconds == 21


def test_several_results_may_be_expected(tmp_path: Path) -> None:
    (entry,) = load(tmp_path, '[a]\ntier = 1\nexpect = "pass or skip"\nwhy = "the host"\n')
    assert entry.expected == {Verdict.PASS, Verdict.SKIP}


@pytest.mark.parametrize(
    "line",
    [
        'expect = "skip"',
        'cpu = "intel"',
        'arguments = "-m 1"',
        "alone = true",
        'expect = "sometimes"\nwhy = "?"',
        "tiers = 1",
    ],
    ids=[
        "skip without why",
        "vendor without why",
        "arguments without why",
        "alone without why",
        "unknown result",
        "unknown key",
    ],
)
def test_entry_that_says_too_little_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=r"no `why`|unknown keys|not a valid Verdict"):
        load(tmp_path, f"[a]\ntier = 1\n{line}\n")
