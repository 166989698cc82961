"""QEMU boots Linux in containers without privilege, against a bind-mounted device."""

import shutil
from pathlib import Path

import pytest

from tests.container import qemu
from tests.container.bundle import RUNTIMES, add_file, missing, run_container, write_bundle
from tests.deadline import deadline
from tests.server import Server
from tools.guests import packages

BOOT_SECONDS = 300

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which(qemu.QEMU) is None, reason="QEMU is not installed"),
    pytest.mark.skipif(
        not Path("/sys/fs/cgroup/devices").exists(), reason="no device cgroup is mounted"
    ),
]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_qemu_boots_linux(directory: Path, server_for_all: Server, runtime: str) -> None:
    if missing(runtime):
        pytest.skip(f"{runtime} is not installed")
    try:
        config = qemu.qemu_configuration(directory, uid=1000)
    except packages.Unavailable as unavailable:
        pytest.skip(str(unavailable))
    add_file(config, server_for_all.path)
    write_bundle(directory, config)
    with deadline(BOOT_SECONDS):
        qemu.check(run_container(directory, runtime))
