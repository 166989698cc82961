"""Sessions get a niceness of their own."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tools.bench.priority import favour

GROUPS = Path("/proc/self/autogroup")


@pytest.mark.skipif(not GROUPS.exists(), reason="the kernel groups no processes by session")
def test_a_session_is_favoured_and_ours_is_not() -> None:
    before = GROUPS.read_text()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as process:
        favour(process.pid, 5)
        after = Path(f"/proc/{process.pid}/autogroup").read_text()
        assert re.search(r"nice 5$", after.strip())
        assert process.stdin is not None
        process.stdin.close()
    assert GROUPS.read_text() == before


def test_nobody_is_touched_without_a_wish() -> None:
    favour(os.getpid(), 0)
    favour(-1, 5)
