"""Containers without privilege that have /dev/kvm by CUSE: a device node by number, and the rule of
the device cgroup that lets it be opened."""

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests import programs
from tests.container import linux, qemu
from tests.container.bundle import RUNTIMES, missing
from tests.uml import needs_uml
from tools.guests import packages
from tools.uml.machine import run

pytestmark = [pytest.mark.slow, needs_uml]

MACHINE_SECONDS = 900


@pytest.fixture(scope="session")
def containers(clients: object) -> Any:  # noqa: ARG001
    """What became of them: the machine is booted once for all."""
    if shutil.which(qemu.QEMU) is None:
        pytest.skip("QEMU is not installed")
    try:
        packages.kernel(), linux.initramfs()
    except packages.Unavailable as unavailable:
        pytest.skip(str(unavailable))
    outcome = run([sys.executable, "-m", "tests.cuse.in_container"], timeout_s=MACHINE_SECONDS)
    assert outcome.status == 0, outcome.stderr.decode()
    return json.loads(outcome.stdout)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_program_runs_where_the_node_may_be_opened(containers: Any, runtime: str) -> None:
    if missing(runtime):
        pytest.skip(f"{runtime} is not installed")
    status, printed, errors = containers[f"demo {runtime}"]
    assert (status, printed) == (0, programs.expected_output("demo")), errors


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_node_without_the_rule_cannot_be_opened(containers: Any, runtime: str) -> None:
    if missing(runtime):
        pytest.skip(f"{runtime} is not installed")
    status, printed, errors = containers[f"refused {runtime}"]
    assert (status, printed) == (1, "")
    assert "Operation not permitted" in errors


def test_qemu_boots_linux(containers: Any) -> None:
    qemu.check(subprocess.CompletedProcess([], *containers["qemu"]))
