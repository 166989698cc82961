"""Answers an ioctl: finds its row, runs it, turns failures into errno.

An unknown number answers as x86 Linux does on that kind of file: EINVAL on the system and vCPU
fd, ENOTTY on a VM's. A VM answers only the process that made it (EIO), as KVM does.
"""

import errno
import logging
from typing import Final

from kvmshim.abi import profiles
from kvmshim.dispatch.request import Reply, Request
from kvmshim.dispatch.table import TABLES
from kvmshim.errors import KvmError, errno_of_status
from kvmshim.objects.system import System
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm
from microv.status import MvError

_LOG: Final = logging.getLogger(__name__)

UNKNOWN: Final[dict[type, int]] = {
    System: errno.EINVAL,
    Vm: errno.ENOTTY,
    Vcpu: errno.EINVAL,
}
"""The errno of a number that a kind of file does not have."""


def ioctl(request: Request) -> Reply:
    """The answer to `request`: a result, a negative errno, or a file to make."""
    try:
        return _answer(request)
    except KvmError as error:
        _LOG.debug("ioctl %#x of %d: %s", request.number, request.caller.tid, error)
        return -error.errno
    except MvError as error:
        _LOG.debug("ioctl %#x of %d: %s", request.number, request.caller.tid, error)
        return -errno_of_status(error.status)


def _answer(request: Request) -> Reply:
    target = request.target
    vm = target.vm if isinstance(target, Vcpu) else target
    if isinstance(vm, Vm) and vm.process != request.caller.process:
        raise KvmError(errno.EIO, f"the VM belongs to process {vm.process}")
    shape = TABLES[type(target)].get(request.number)
    if shape is None or not profiles.has_ioctl(request.number):
        raise KvmError(UNKNOWN[type(target)], f"ioctl {request.number:#x} is not there")
    return shape(request)
