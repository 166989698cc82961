"""Every client, dynamic and static, and bad input, against /dev/kvm by CUSE in user-mode Linux."""

import json
import sys
from typing import Any

import pytest

from tests import programs
from tests.uml import needs_uml
from tools.uml.machine import run

pytestmark = [pytest.mark.slow, needs_uml]

MACHINE_SECONDS = 600


@pytest.fixture(scope="session")
def machine(clients: object) -> Any:  # noqa: ARG001
    """What happened in the machine: booted once for all."""
    outcome = run([sys.executable, "-m", "tests.cuse.inside"], timeout_s=MACHINE_SECONDS)
    assert outcome.status == 0, outcome.stderr.decode()
    return json.loads(outcome.stdout)


def test_server_says_that_it_is_ready_and_stops_cleanly(machine: Any) -> None:
    assert machine["ready"] == "kvmshim: serving /dev/kvm (CUSE)\n"
    assert machine["status"] == 0


@pytest.mark.parametrize("linkage", programs.LINKAGES, ids=["dynamic", "static"])
@pytest.mark.parametrize("name", programs.NAMES)
def test_client_prints_what_it_should_and_succeeds(machine: Any, name: str, linkage: str) -> None:
    status, printed, errors = machine["clients"][f"{name}{linkage}"]
    assert (status, printed) == (0, programs.expected_output(name)), errors


def test_bad_input_is_refused_as_over_fuse(machine: Any) -> None:
    status, printed, errors = machine["bad_input"]
    assert status == 0, printed + errors
