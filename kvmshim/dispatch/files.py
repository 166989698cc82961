"""What reaches the files that ioctls make, beside their ioctls: read, fallocate, close."""

import errno
import logging
from typing import Final

from kvmshim.dispatch.request import Kept
from kvmshim.errors import KvmError, errno_of_status
from kvmshim.handle import statistics
from kvmshim.handle.vm import guest_memory, lifetime
from kvmshim.objects.guest_memory import GuestMemory
from kvmshim.objects.statistics import Statistics
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm
from microv.status import MvError

_LOG: Final = logging.getLogger(__name__)


def read(target: Kept, span: slice) -> bytes:
    """What read(2) of `span` gets, less at the end. KvmError: EINVAL for what cannot be read."""
    if not isinstance(target, Statistics):
        raise KvmError(errno.EINVAL, f"{type(target).__name__} cannot be read")
    try:
        return statistics.contents(target)[span]
    except MvError as error:
        _LOG.debug("read of %s: %s", type(target).__name__, error)
        raise KvmError(errno_of_status(error.status)) from error


def allocate(target: Kept, mode: int, offset: int, size: int) -> None:
    """What fallocate(2) does. KvmError: EOPNOTSUPP for what has no memory; of the memory."""
    if not isinstance(target, GuestMemory):
        raise KvmError(errno.EOPNOTSUPP, f"{type(target).__name__} has no memory")
    guest_memory.allocate(target, mode, offset, size)


def release(target: Kept) -> None:
    """The last descriptor of a file is closed."""
    match target:
        case Vcpu():
            lifetime.release_vcpu(target)
        case Vm():
            lifetime.release_vm(target)
        case Statistics():
            lifetime.release_vm(target.vm)
        case GuestMemory():
            guest_memory.close(target)
            lifetime.release_vm(target.vm)
