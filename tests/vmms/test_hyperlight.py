"""hyperlight-sandbox, a Rust VMM in a Python extension: its guests run code and leave nothing."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cli.environment import kvmshim
from tests.deadline import patient
from tests.server import ROOT

SANDBOXES: Final = int(os.environ.get("KVMSHIM_SANDBOXES", "12"))
WARM_UP: Final = 5
"""After which nothing grows any more but by what a sandbox leaves."""

SECONDS_OF_A_SANDBOX: Final = 20
"""Twenty times what one takes on a busy machine."""

PACKAGES: Final = Path(__file__).with_name("hyperlight.lock")
HOME: Final = ROOT / "build" / "hyperlight"
SLACK: Final = {"descriptors": 8, "threads": 8, "memfds": 0, "mappings": 64}
"""How much more the server may have: threads that serve on demand, and their descriptors."""
GROWTH_KIB: Final = 48 * 1024

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def interpreter() -> Path:
    """A Python with the packages; installed if they are not."""
    python = HOME / "bin" / "python"
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the extension is for Python 3.11")
    if not (HOME / "installed").exists():
        venv.create(HOME, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        options = ["--require-hashes", "--requirement", str(PACKAGES)]
        if subprocess.run([*pip, *options], check=False).returncode:
            pytest.skip("the packages of hyperlight.lock cannot be had")
        (HOME / "installed").touch()
    return python


@pytest.fixture(scope="module")
def outcome(interpreter: Path) -> Any:
    """What the sandboxes say, after all of them."""
    script = Path(__file__).with_name("sandboxes.py")
    numbers = [str(WARM_UP), str(SANDBOXES)]
    timeout = patient(60 + SANDBOXES * SECONDS_OF_A_SANDBOX)
    result = kvmshim("run", "--", interpreter, script, *numbers, timeout=timeout)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_every_sandbox_answers(outcome: Any) -> None:
    seconds = sorted(outcome["seconds"])
    print(f"{len(seconds)} sandboxes, median {seconds[len(seconds) // 2] * 1000:.0f} ms")
    assert len(seconds) == SANDBOXES


@pytest.mark.parametrize("what", SLACK)
def test_the_server_keeps_nothing_of_them(outcome: Any, what: str) -> None:
    before, after = outcome["before"]["server"], outcome["after"]["server"]
    assert after[what] <= before[what] + SLACK[what]


# Its own mapping of the guest's image it keeps, one for each sandbox: not ours to undo.
@pytest.mark.parametrize("what", ["descriptors", "threads", "memfds"])
def test_the_client_keeps_nothing_of_them(outcome: Any, what: str) -> None:
    before, after = outcome["before"]["client"], outcome["after"]["client"]
    assert after[what] <= before[what]


@pytest.mark.parametrize("side", ["client", "server"])
def test_memory_does_not_grow_with_them(outcome: Any, side: str) -> None:
    grown = outcome["after"][side]["resident_kib"] - outcome["before"][side]["resident_kib"]
    assert grown <= GROWTH_KIB
