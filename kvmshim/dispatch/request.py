"""An ioctl on its way in, and its answer on the way out."""

from dataclasses import dataclass

from kvmshim.objects.guest_memory import GuestMemory
from kvmshim.objects.statistics import Statistics
from kvmshim.objects.system import System
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller

Target = System | Vm | Vcpu
"""What the file descriptor of an ioctl stands for."""

Kept = Vm | Vcpu | Statistics | GuestMemory
"""What a file that an ioctl makes stands for, and keeps until its last descriptor is closed."""


@dataclass(frozen=True, slots=True)
class Request:
    """One ioctl."""

    target: Target
    number: int
    """The command, 32 bits, with direction and size as `asm-generic/ioctl.h` packs them."""
    arg: int
    """The argument, 64 bits: a value or an address in the caller."""
    caller: Caller


@dataclass(frozen=True, slots=True)
class NewFile:
    """The ioctl's result is a new file descriptor in the caller that stands for `target`."""

    target: Kept
    close_on_exec: bool = True


Reply = int | NewFile
"""A result of 0 or more, a negative errno, or a file to make."""
