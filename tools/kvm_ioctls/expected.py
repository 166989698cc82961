"""Tests that cannot pass here, and why."""

import os
from collections.abc import Mapping
from typing import Final

_FEW_PROCESSORS: Final = (os.cpu_count() or 1) < 4

_NESTED: Final = "saves the state of nested virtualization, which is not there"

CANNOT_PASS: Final[Mapping[str, str]] = {
    "ioctls::device::tests::test_create_device": "makes a VFIO device",
    "ioctls::vcpu::tests::test_get_and_set_nested_state": _NESTED,
} | (
    {"ioctls::system::tests::test_kvm_getters": "wants a machine of at least 4 processors"}
    if _FEW_PROCESSORS
    else {}
)
"""By the test's name. One that passes all the same is an error: its row has to go."""
