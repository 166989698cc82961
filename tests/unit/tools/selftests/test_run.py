"""How the exit status and the words of a selftest become a row of the table."""

import os
from pathlib import Path

import pytest

from tests.leftovers import stat_fields, wait_until
from tools.report import Verdict
from tools.selftests.run import Outcome, watch

pytestmark = pytest.mark.usefixtures("guarded")

ASSERTION = r"""==== Test Assertion Failure ====
  x86_64/some_test.c:12: !rc
  pid=1 tid=1 errno=22 - Invalid argument
     1\t0x0000000000402531: main at some_test.c:12
     2\t0x00007f2fd2e8d249: ?? ??:0
"""


def outcome_of(script: str, log: Path, seconds: float = 30) -> tuple[Verdict, str]:
    outcome = watch("test", ["/bin/sh", "-c", script], seconds, log)
    return outcome.verdict, outcome.reason


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_success_needs_no_reason(log: Path) -> None:
    assert outcome_of("echo words", log) == (Verdict.PASS, "")


def test_skip_gives_its_requirement(log: Path) -> None:
    script = "echo '1..0 # SKIP - Requirement not met: has_cap(X)'; exit 4"
    assert outcome_of(script, log) == (Verdict.SKIP, "has_cap(X)")


def test_assertion_gives_place_and_message(log: Path) -> None:
    script = f"printf '{ASSERTION}  Could not do it\\nmore output\\n'; exit 254"
    assert outcome_of(script, log) == (Verdict.FAIL, "x86_64/some_test.c:12: Could not do it")


def test_assertion_without_a_message_gives_its_condition(log: Path) -> None:
    script = f"printf '{ASSERTION}\\nmore output\\n'; exit 254"
    assert outcome_of(script, log) == (Verdict.FAIL, "x86_64/some_test.c:12: !rc")


def test_failure_without_words_gives_its_status(log: Path) -> None:
    assert outcome_of("exit 3", log) == (Verdict.FAIL, "exit status 3")


def test_failure_of_a_busy_machine_is_a_skip() -> None:
    failed = Outcome("test", Verdict.FAIL, "test.c:1: Only 5 rounds, stalled too much?", 1)
    assert failed.unless_stalled("stalled too").verdict is Verdict.SKIP
    assert failed.unless_stalled("").verdict is Verdict.FAIL
    assert failed.unless_stalled("other words").verdict is Verdict.FAIL
    passed = Outcome("test", Verdict.PASS, "", 1)
    assert passed.unless_stalled("stalled too") == passed


def test_too_long_a_run_fails_and_leaves_no_process(log: Path) -> None:
    script = "sleep 1000 & echo $! >&2; wait"
    assert outcome_of(script, log, seconds=0.5) == (Verdict.FAIL, "not done after 0 s")
    child = int(log.read_text())
    wait_until(lambda: stat_fields(child)[:1] in ([], ["Z"], ["X"]))


def test_child_left_behind_is_ended(log: Path) -> None:
    assert outcome_of("sleep 1000 & echo $!", log) == (Verdict.PASS, "")
    child = int(log.read_text())
    assert child != os.getpid()
    wait_until(lambda: stat_fields(child)[:1] in ([], ["Z"], ["X"]))
