"""What befalls QEMU with Linux: killed while it boots, given files larger than its memory, started
twice.

Each runs below a `kvmshim run` of its own, of which nothing may be left.
"""

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.container import linux
from tests.deadline import deadline
from tests.leftovers import mounts_below, wait_until
from tests.vmms.running import check_nothing_is_left, memory_of, running, vmm_of
from tools.guests import packages

MOMENTS: Final = range(int(os.environ.get("KVMSHIM_BOOT_KILLS", "4")))
CONSOLE_BYTES: Final = 22_000
"""Of a boot, about: a moment is a number of them, or none, and a number of steps of ours."""
EARLY_STEPS: Final = 100_000
STEPS: Final = 2_000
BOOT_SECONDS: Final = 300

QEMU: Final = Path(shutil.which("qemu-system-x86_64") or "/usr/bin/qemu-system-x86_64")
OPTIONS: Final = ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not QEMU.exists(), reason="QEMU is not installed"),
]


@pytest.fixture(scope="module")
def kernel() -> Path:
    """Debian's."""
    try:
        return packages.kernel()
    except packages.Unavailable as unavailable:
        pytest.skip(str(unavailable))


@pytest.fixture(scope="module")
def initramfs(tmp_path_factory: pytest.TempPathFactory, kernel: Path) -> Path:  # noqa: ARG001
    """One that says that Linux is up and switches the machine off."""
    path = tmp_path_factory.mktemp("guest") / "initramfs.gz"
    path.write_bytes(linux.initramfs())
    return path


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Also on a busy machine."""
    with deadline(BOOT_SECONDS):
        yield


def command(
    kernel: Path, initramfs: Path, *, accel: str = "kvm", megabytes: int = 256
) -> list[str]:
    """QEMU whose standard output is the guest's console."""
    files = ["-kernel", str(kernel), "-initrd", str(initramfs)]
    machine = ["-accel", accel, "-m", str(megabytes), "-serial", "stdio"]
    return [str(QEMU), *OPTIONS, *machine, *files, "-append", "console=ttyS0 panic=-1"]


def live_until(process: subprocess.Popen[bytes], moment: int) -> None:
    """Returns somewhere between QEMU's start and its end."""
    chance = random.Random(moment)
    wait_until(lambda: vmm_of(process, QEMU) is not None or process.poll() is not None)
    left, steps = 0, chance.randrange(EARLY_STEPS)
    if chance.random() < 0.7:
        left, steps = chance.randrange(CONSOLE_BYTES), chance.randrange(STEPS)
    assert process.stdout is not None
    while left > 0 and (data := process.stdout.read(left)):
        left -= len(data)
    for _ in range(steps):
        os.sched_yield()


def outside() -> tuple[list[str], list[str]]:
    """What this test sees of mounts on /dev, and of places to mount on."""
    return mounts_below(Path("/dev")), sorted(os.listdir("/dev"))


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_boot_leaves_nothing(kernel: Path, initramfs: Path, moment: int) -> None:
    before = outside()
    with running([*command(kernel, initramfs), "-smp", "2"]) as process:
        live_until(process, moment)
        memory = memory_of(process)
        pid = vmm_of(process, QEMU)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        said, errors = process.communicate()
        assert process.returncode == (0 if pid is None else -signal.SIGKILL), said + errors
        check_nothing_is_left(process, memory)
    assert outside() == before


@pytest.mark.parametrize("moment", MOMENTS[:2])
def test_killed_kvmshim_takes_a_boot_along(kernel: Path, initramfs: Path, moment: int) -> None:
    before = outside()
    with running(command(kernel, initramfs)) as process:
        live_until(process, moment)
        memory = memory_of(process)
        process.kill()
        process.communicate()
        check_nothing_is_left(process, memory)
    assert outside() == before


@pytest.mark.parametrize(("large", "megabytes"), [("kernel", 4), ("initrd", 16)])
def test_files_larger_than_the_memory_end_as_without_kvm(
    kernel: Path, initramfs: Path, tmp_path: Path, large: str, megabytes: int
) -> None:
    """A kernel that is partly nowhere resets the machine; an initrd QEMU itself refuses."""
    if large == "initrd":
        initramfs = tmp_path / "initrd"
        initramfs.write_bytes(bytes(megabytes << 20))
    wanted = subprocess.run(
        command(kernel, initramfs, accel="tcg", megabytes=megabytes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert linux.MARK.encode() not in wanted.stdout
    with running(command(kernel, initramfs, megabytes=megabytes)) as process:
        said, errors = process.communicate()
        assert (process.returncode, said) == (wanted.returncode, wanted.stdout), errors
        assert errors == wanted.stderr
        check_nothing_is_left(process, set())


def test_one_started_twice_is_refused_once(kernel: Path, initramfs: Path, tmp_path: Path) -> None:
    """By QEMU's lock of the disk; the first one boots on."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    drive = ["-drive", f"if=none,id=disk,format=raw,file={disk}"]
    qemu = [*command(kernel, initramfs), *drive, "-device", "virtio-blk-pci,drive=disk"]
    with running(qemu) as one:
        assert one.stdout is not None
        assert one.stdout.read(1)
        with running(qemu) as other:
            said, errors = other.communicate()
            assert (other.returncode, said) == (1, b"")
            assert b'Failed to get "write" lock' in errors
            check_nothing_is_left(other, set())
        said, errors = one.communicate()
        assert one.returncode == 0, errors
        assert linux.MARK.encode() in said
        check_nothing_is_left(one, set())
