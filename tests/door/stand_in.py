"""`kvmshim` with a stand-in behind its doors: `python -m tests.door.stand_in ARGS...`.

The stand-in answers a few private numbers instead of KVM's, so that the doors can be tested alone.
"""

import ctypes
import errno
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from kvmshim.cli.main import main
from kvmshim.cli.processor import Processor
from kvmshim.cli.wiring import Wiring
from kvmshim.device import mount_ffi
from kvmshim.device.door import DoorError
from kvmshim.device.fuse_ffi import NativeSlot
from kvmshim.device.workplace import RunDoor
from kvmshim.dispatch.request import Kept, NewFile, Reply, Request
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm
from tests.door.numbers import BROKEN, NATIVE_SLOT, OLD_KERNEL, RUN_MARK, RUN_SIZE, Number


class StandInGate:
    """A gate that is never shut: the tests of the doors exchange no memory of threads."""

    def __init__(self) -> None:
        self._inside: set[int] = set()

    def enter(self, tid: int) -> None:
        self._inside.add(tid)

    def leave(self, tid: int) -> None:
        self._inside.discard(tid)

    withdraw = leave

    @contextmanager
    def closed(self) -> Iterator[None]:
        yield

    def inside(self) -> Collection[int]:
        return frozenset(self._inside)


class StandInVmDoor:
    """A VM without anything behind it."""

    def add_zone(self, address: int, size: int, *, port: bool) -> bool:  # noqa: ARG002
        return False

    def remove_zones(self, address: int, size: int, *, port: bool) -> None:
        """There are none."""

    def set_slot(self, number: int, gpa: int, size: int) -> None:
        """There are no rings."""

    def reset_rings(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is kept."""


class StandInService:
    """Implements `kvmshim.device.workplace.Service`."""

    def __init__(self) -> None:
        self._released = 0
        self._gate = StandInGate()
        self._run_files: dict[Vcpu, int] = {}

    def gate(self, process: int) -> StandInGate:  # noqa: ARG002
        return self._gate

    def ioctl(self, request: Request) -> Reply:
        match request.number:
            case Number.ANSWER:
                return 12
            case Number.WHO:
                return request.caller.tid
            case Number.KIND:
                return {Vm: 1, Vcpu: 2}.get(type(request.target), 0)
            case Number.BLOCK:
                threading.Event().wait()
            case Number.FAULT:
                raise RuntimeError("the service is at fault")
            case Number.RELEASED:
                return self._released
            case Number.NEW_VM:
                return NewFile(Vm(0, request.caller.process, StandInVmDoor()))
            case Number.NEW_VCPU if isinstance(request.target, Vm):
                return NewFile(Vcpu(request.target, request.arg, 0, 0))
            case Number.ECHO:
                return request.arg & 0x7FFFFFFF
        return -errno.EINVAL

    def read(self, target: Kept, span: slice) -> bytes:
        raise KvmError(errno.EINVAL, f"{target} at {span}")

    def allocate(self, target: Kept, mode: int, offset: int, size: int) -> None:
        raise KvmError(errno.EOPNOTSUPP, f"{target}: {mode}, {offset}, {size}")

    def release(self, target: Kept) -> None:
        self._released += 1
        if isinstance(target, Vcpu):
            os.close(self._run_files.pop(target))

    def vm_slot(self, vm: Vm, python_ioctl: int) -> None:
        """Python answers all of a VM's ioctls."""

    def run_door(self, vcpu: Vcpu, python_ioctl: int) -> RunDoor:
        memfd = self._run_files[vcpu] = os.memfd_create("run")
        os.ftruncate(memfd, RUN_SIZE)
        os.pwrite(memfd, RUN_MARK, 0)
        library = os.environ.get(NATIVE_SLOT)
        if library is None:
            return RunDoor(memfd, RUN_SIZE, None)
        native = ctypes.CDLL(library)
        slot = NativeSlot(
            function=_address(native.native_ioctl),
            userdata=python_ioctl,
            read=_address(native.native_read),
            writev=_address(native.native_writev),
        )
        return RunDoor(memfd, RUN_SIZE, slot)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def make_service(_processor: Processor) -> StandInService:
    if BROKEN in os.environ:
        raise DoorError(os.environ[BROKEN])
    return StandInService()


def no_fsopen(kind: str) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), kind)


if __name__ == "__main__":
    if OLD_KERNEL in os.environ:
        mount_ffi.fsopen = no_fsopen
    main(wiring=Wiring(make_service))
