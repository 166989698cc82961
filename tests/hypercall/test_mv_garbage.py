"""The contract is wide: whatever registers and page hold, there is a status and no crash."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deadline import patient

_ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_any_registers_and_any_page_get_a_status() -> None:
    program = [sys.executable, "-m", "tests.hypercall.garbage"]
    ended = subprocess.run(program, cwd=_ROOT, capture_output=True, text=True, timeout=patient(55))
    assert ended.returncode == 0, ended.stdout + ended.stderr[-4000:]
