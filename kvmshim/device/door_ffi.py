"""The Rust side of the door as typed Python: gates, and the slots of vCPUs and VMs.

The library is the one that holds the engine; only the door's functions are named here.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Protocol

from kvmshim.device import fuse_ffi
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Irqchip, Vm
from kvmshim.platform.eventfds import Watched
from microv import _native

_ffi = _native.ffi
_FEW_THREADS = 64


@cache
def _library() -> Any:
    fields = _ffi.typeof("Functions").fields
    functions = {
        name: _ffi.cast(field.type, address)
        for (name, field), address in zip(fields, fuse_ffi.addresses_for_door(), strict=True)
    }
    _native.lib.kvmshim_door_init(_ffi.new("Functions *", functions))
    return _native.lib


def pin_vcpus() -> None:
    """Keep threads that call KVM_RUN on one processor each, with those that serve them."""
    _library().kvmshim_pin_vcpus()


def start_opener(channel: int) -> int:
    """Start the thread that opens files as `kvmshim.device.opener` says; its number.

    It takes the descriptor. OSError: EAGAIN, ENOMEM.
    """
    started = int(_library().kvmshim_opener_start(channel))
    if started < 0:
        raise OSError(-started, os.strerror(-started))
    return started


def _exchange(sync: "SyncRegs", image: Any, fields: int, store: bool) -> int:
    """The C function of one vCPU. What it raises cffi prints, and 0 is the answer."""
    if not store:
        return sync.load(fields, bytes(_ffi.buffer(image, sync.size)))
    for offset, part in sync.store(fields):
        _ffi.memmove(image + offset, part, len(part))
    return fields


class Gate:
    """Which threads of a client wait in a request of ours; holds their answers back if asked.

    A thread that waits in a request cannot be stopped by ptrace, but it runs no user code before
    it is answered. Whoever needs the client to stand still closes the gate, stops the threads that
    are not inside, and opens the gate again.
    """

    def __init__(self) -> None:
        library = _library()
        self.native = _ffi.gc(library.kvmshim_gate_new(), library.kvmshim_gate_free)

    def enter(self, tid: int) -> None:
        """Thread `tid` waits for us from now on."""
        _library().kvmshim_gate_enter(self.native, tid)

    def leave(self, tid: int) -> None:
        """Wait until the gate is open; then `tid` may be answered."""
        _library().kvmshim_gate_leave(self.native, tid)

    def withdraw(self, tid: int) -> None:
        """`tid` is about to be stopped rather than answered."""
        _library().kvmshim_gate_withdraw(self.native, tid)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Nobody is answered within it. Nests."""
        library = _library()
        library.kvmshim_gate_close(self.native)
        try:
            yield
        finally:
            library.kvmshim_gate_open(self.native)

    def inside(self) -> set[int]:
        """The threads that wait in requests."""
        capacity = _FEW_THREADS
        while True:
            tids = _ffi.new("uint32_t[]", capacity)
            count = _library().kvmshim_gate_inside(self.native, tids, capacity)
            if count <= capacity:
                return set(tids[0:count])
            capacity = count


class SyncRegs(Protocol):
    """The registers in the run area, as the door exchanges them."""

    size: int
    """Bytes of the image of all registers."""

    def load(self, fields: int, image: bytes) -> int:
        """Sets the registers of `fields`; returns the fields that are set."""

    def store(self, fields: int) -> Iterable[tuple[int, bytes]]:
        """The registers of `fields`: offsets in the image, and what comes there."""


class VcpuSlot:
    """The native ioctl slot of one vCPU's session."""

    def __init__(self, vcpu: Vcpu, memfd: int, rest: int, sync: SyncRegs, gate: Gate) -> None:
        """`memfd` holds the run area and the dirty ring, `rest` is the address of the C function
        for what is not KVM_RUN. Only threads of the process that made the VM may call.

        MemoryError where the area cannot be mapped.
        """
        library = _library()
        rest_function = _ffi.cast("IoctlFn", rest)
        # The vCPU calls it until `close`.
        self._sync = _ffi.callback("SyncFn", partial(_exchange, sync))
        has_lapic = vcpu.vm.irqchip is not Irqchip.NONE
        ids = vcpu.vm.vmid, vcpu.vsid, vcpu.vm.process, has_lapic
        area = memfd, vcpu.vm.dirty_ring_size
        self._vcpu = library.kvmshim_vcpu_new(*ids, *area, rest_function, self._sync, gate.native)
        if self._vcpu == _ffi.NULL:
            raise MemoryError("the run area of the vCPU cannot be mapped")

    def native(self) -> fuse_ffi.NativeSlot:
        """The slot as a session takes it."""
        return _native_slot("kvmshim_vcpu", self._vcpu)

    def set_mask(self, blocked: int) -> None:
        """See `kvmshim.platform.signals`."""
        if not _library().kvmshim_vcpu_set_signal_mask(self._vcpu, blocked):
            raise KvmError(errno.ENOMEM, "no thread to look at signals")

    def close(self) -> None:
        """The session has ended; nobody calls the slot any more."""
        _library().kvmshim_vcpu_free(self._vcpu)


class InterruptSlot:
    """The native ioctl slot of one VM's session: the ioctls that raise interrupts."""

    def __init__(self, vm: Vm, rest: int, gate: Gate) -> None:
        """`rest` is the address of the C function for the other ioctls. Only threads of the process
        that made the VM may call."""
        rest_function = _ffi.cast("IoctlFn", rest)
        self._interrupts = _library().kvmshim_interrupts_new(
            vm.vmid, vm.process, rest_function, gate.native
        )

    def native(self) -> fuse_ffi.NativeSlot:
        """The slot as a session takes it."""
        return _native_slot("kvmshim_vm", self._interrupts)

    def close(self) -> None:
        """The session has ended; nobody calls the slot any more."""
        _library().kvmshim_interrupts_free(self._interrupts)


def _native_slot(functions: str, userdata: Any) -> fuse_ffi.NativeSlot:
    return fuse_ffi.NativeSlot(
        function=_address(f"{functions}_ioctl"),
        userdata=int(_ffi.cast("uintptr_t", userdata)),
        read=_address(f"{functions}_read"),
        writev=_address("kvmshim_session_writev"),
    )


def _address(function: str) -> int:
    return int(_ffi.cast("uintptr_t", _ffi.addressof(_library(), function)))


def _native_watched(watched: Watched) -> Any:
    return _ffi.new(
        "IoEvent *",
        {
            "port": watched.port,
            "len": watched.size,
            "any_data": watched.data is None,
            "address": watched.address,
            "data": watched.data or 0,
        },
    )


def add_ioeventfd(vmid: int, watched: Watched, identity: int, fd: int) -> bool:
    """Signal our eventfd `fd`, of which a duplicate is kept, for writes of the VM's guest. False:
    a write could be for another one too."""
    native = _native_watched(watched)
    return bool(_library().kvmshim_ioeventfd_add(vmid, native, identity, fd))


def remove_ioeventfd(vmid: int, watched: Watched, identity: int) -> bool:
    """Undo `add_ioeventfd`. False: there was none."""
    native = _native_watched(watched)
    return bool(_library().kvmshim_ioeventfd_remove(vmid, native, identity))


def add_connection(vmid: int, number: int, fd: int) -> bool:
    """Signal our eventfd `fd`, of which a duplicate is kept, for events of a connection of
    Hyper-V's. False: it has one."""
    return bool(_library().kvmshim_connection_add(vmid, number, fd))


def remove_connection(vmid: int, number: int) -> bool:
    """Undo `add_connection`. False: there was none."""
    return bool(_library().kvmshim_connection_remove(vmid, number))


def assign_irqfd(vmid: int, gsi: int, identity: int, fd: int, resample: int | None) -> bool:
    """Let our eventfd `fd`, of which a duplicate is kept, raise a line. False: it does already."""
    resample_fd = -1 if resample is None else resample
    return bool(_library().kvmshim_irqfd_assign(vmid, gsi, identity, fd, resample_fd))


def deassign_irqfd(vmid: int, gsi: int, identity: int) -> None:
    """Undo `assign_irqfd`, if it was done."""
    _library().kvmshim_irqfd_deassign(vmid, gsi, identity)


def forget_vm(vmid: int) -> None:
    """The VM is about to end: close its eventfds."""
    _library().kvmshim_vm_forget(vmid)


def begin_vm(vmid: int, page_fd: int) -> None:
    """A VM begins; the page of `page_fd` is the ring of its coalesced writes. MemoryError."""
    if not _library().kvmshim_vm_begin(vmid, page_fd):
        raise MemoryError("the page of coalesced writes cannot be mapped")


def end_vm(vmid: int) -> None:
    """Undo `begin_vm`."""
    _library().kvmshim_vm_end(vmid)


def add_zone(vmid: int, address: int, size: int, *, port: bool) -> bool:
    """Keep writes inside of a range in the ring. False: there are too many zones."""
    return bool(_library().kvmshim_zone_add(vmid, port, address, size))


def remove_zones(vmid: int, address: int, size: int, *, port: bool) -> None:
    """Undo `add_zone` for the zones that hold a whole range."""
    _library().kvmshim_zone_remove(vmid, port, address, size)


def set_slot(vmid: int, number: int, gpa: int, size: int) -> None:
    """Tell dirty rings where a slot is; nowhere with no size."""
    _library().kvmshim_slot_set(vmid, number, gpa, size)


def reset_rings(vmid: int) -> int:
    """Free what was harvested of the VM's dirty rings; how many entries."""
    return int(_library().kvmshim_rings_reset(vmid))
