"""What a test needs beyond an ordinary user's rights."""

import os
from typing import Final

import pytest

needs_root: Final = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
needs_fuse: Final = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="needs root and /dev/fuse"
)
