"""`kvmshim check`: what works here, and what to do about the rest."""

import pytest

from tests.cli.environment import KVMSHIM, execute, kvmshim
from tests.ordinary_user import DROP_ROOT, needs_readable_sources

pytestmark = pytest.mark.usefixtures("guarded")

# What an ordinary user finds where FUSE is root's alone.
PRIVATE_FUSE = """
set -e
mount -t tmpfs tmpfs /mnt
mknod -m 600 /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
umount --lazy /mnt
if [ -e /dev/kvm ]; then mount --bind /dev/null /dev/kvm; fi
exec "$@"
"""


@pytest.mark.parametrize("subject", ["FUSE", "CUSE", "namespaces", "ptrace", "kernel"])
def test_every_subject_is_reported(subject: str) -> None:
    assert subject.lower() in kvmshim("check").stdout.lower()


def test_root_may_run_here() -> None:
    result = kvmshim("check")
    assert result.returncode == 0, result.stdout


@needs_readable_sources
def test_user_without_fuse_is_told_and_advised() -> None:
    result = execute(*DROP_ROOT, *KVMSHIM, "check", script=PRIVATE_FUSE)
    assert result.returncode == 1
    assert "/dev/fuse" in result.stdout
