"""What the stand-in service and its clients have agreed on."""

from enum import IntEnum
from typing import Final

RUN_SIZE: Final = 3 * 4096
RUN_MARK: Final = b"run pages"
NATIVE_SLOT: Final = "KVMSHIM_TEST_NATIVE_SLOT"
"""Environment variable: a library whose function `native_ioctl` answers for vCPUs."""
OLD_KERNEL: Final = "KVMSHIM_TEST_OLD_KERNEL"
"""Environment variable: if it is set the kernel has no fsopen(2)."""
BROKEN: Final = "KVMSHIM_TEST_BROKEN"
"""Environment variable: no service is to be had, for the reason that it says."""


class Number(IntEnum):
    """Ioctl numbers; none of them copies anything."""

    ANSWER = 0xAE00
    """12."""
    WHO = 0xAEF0
    """The caller's thread id."""
    KIND = 0xAEF1
    """0 for the system, 1 for a VM, 2 for a vCPU."""
    BLOCK = 0xAEF2
    """Never answered."""
    FAULT = 0xAEF3
    """The service breaks its promise and raises."""
    RELEASED = 0xAEF4
    """How many VMs and vCPUs were let go."""
    NEW_VM = 0xAEF5
    ECHO = 0xAEF6
    """The low 31 bits of the argument."""
    NEW_VCPU = 0xAEF7
    """On a VM; the argument is the id."""
    NATIVE = 0xAEF8
    """Kept by the native slot of the tests: 77."""
