"""Where the commands of these tests run: out of reach of the machine's own /dev/kvm.

Each command gets a private mount namespace in which the machine's device, if there is one, is
covered; what it finds at /dev/kvm can only be what kvmshim put there.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests import programs
from tests.ordinary_user import DROP_ROOT
from tests.server import ROOT

KVMSHIM: Final = [sys.executable, "-m", "kvmshim"]

COVERED: Final = """
set -e
if [ -e /dev/kvm ]; then mount --bind /dev/null /dev/kvm; fi
exec "$@"
"""

# The FUSE device of this machine may be root's alone; elsewhere it is open to all.
COVERED_WITH_PUBLIC_FUSE: Final = """
set -e
mount -t tmpfs tmpfs /mnt
mknod -m 666 /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
umount --lazy /mnt
if [ -e /dev/kvm ]; then mount --bind /dev/null /dev/kvm; fi
exec "$@"
"""

WITHOUT_KVM: Final = """
set -e
mount -t tmpfs tmpfs /mnt
for name in null zero urandom fuse; do
    touch /mnt/$name
    mount --bind /dev/$name /mnt/$name
done
mount --move /mnt /dev
exec "$@"
"""


IN_CHROOT: Final = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/root
for entry in /*; do
    if [ "$entry" = /mnt ]; then continue; fi
    if [ -L "$entry" ]; then
        cp -P "$entry" "/mnt/root$entry"
    elif [ -d "$entry" ]; then
        mkdir "/mnt/root$entry"
        mount --rbind "$entry" "/mnt/root$entry"
    fi
done
if [ -e /dev/kvm ]; then mount --bind /dev/null /mnt/root/dev/kvm; fi
exec chroot /mnt/root "$@"
"""
"""A root directory that is no mount, as debootstrap's."""


def inside(script: str, command: Sequence[str | Path]) -> list[str | Path]:
    """The command line that executes `command` at the end of `script`, with the same PID."""
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh", *command]


def execute(
    *command: str | Path, script: str = COVERED, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        inside(script, command),
        cwd=ROOT,
        env=programs.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def kvmshim(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """`kvmshim ARGUMENTS` as root."""
    return execute(*KVMSHIM, *arguments, **options)


def kvmshim_as_user(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`kvmshim ARGUMENTS` as an ordinary user who may use FUSE."""
    return execute(*DROP_ROOT, *KVMSHIM, *arguments, script=COVERED_WITH_PUBLIC_FUSE)
