"""What an ordinary user may do with this machine and with this copy of the sources."""

import subprocess
import sys
from typing import Final

import pytest

from tests.server import ROOT

ORDINARY_USER: Final = 1000
DROP_ROOT: Final = [
    "setpriv",
    f"--reuid={ORDINARY_USER}",
    f"--regid={ORDINARY_USER}",
    "--clear-groups",
    "--",
]


def _may(*command: str) -> bool:
    done = subprocess.run([*DROP_ROOT, *command], cwd=ROOT, capture_output=True, check=False)
    return done.returncode == 0


def _may_read_the_sources() -> bool:
    """Not below a home that is its owner's alone, as root's often is."""
    return _may(sys.executable, "-c", "import kvmshim, tests")


def _may_make_user_namespaces() -> bool:
    """Not within a chroot, and not where the administrator forbids it."""
    return _may("unshare", "--user", "--map-root-user", "true")


needs_readable_sources = pytest.mark.skipif(
    not _may_read_the_sources(), reason=f"ordinary users may not read {ROOT}"
)
needs_user_namespaces = pytest.mark.skipif(
    not (_may_read_the_sources() and _may_make_user_namespaces()),
    reason=f"ordinary users may not read {ROOT} or not make user namespaces here",
)
