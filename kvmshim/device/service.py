"""The service behind the doors: dispatch for what Python answers, Rust slots for the rest."""

import os
from collections.abc import Iterable

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.limits import PAGE_SIZE, VCPU_MMAP_SIZE
from kvmshim.client.run_page import Piece
from kvmshim.device.door_ffi import Gate, InterruptSlot, VcpuSlot
from kvmshim.device.fuse_ffi import NativeSlot
from kvmshim.device.gates import Gates
from kvmshim.device.vm_door import NativeVmDoor
from kvmshim.device.workplace import RunDoor
from kvmshim.dispatch import files, sync_regs
from kvmshim.dispatch import ioctl as dispatch
from kvmshim.dispatch.request import Kept, NewFile, Reply, Request
from kvmshim.objects.living import Living
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm


class _SyncRegs:
    """The registers that travel with the KVM_RUN of one vCPU."""

    size = sync_regs.SIZE

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu

    def load(self, fields: int, image: bytes) -> int:
        return sync_regs.load(self._vcpu, fields, image)

    def store(self, fields: int) -> Iterable[tuple[int, bytes]]:
        return sync_regs.store(self._vcpu, fields)


class KvmService:
    """Answers requests, and knows the native slot of each VM and vCPU that has a file."""

    def __init__(self) -> None:
        self.living = Living()
        """The VMs that have a file."""
        self._gates = Gates()
        self._run_doors: dict[Vcpu, tuple[RunDoor, VcpuSlot]] = {}
        self._interrupts: dict[Vm, InterruptSlot] = {}

    def ioctl(self, request: Request) -> Reply:
        """Answer a request. Raises nothing."""
        reply = dispatch.ioctl(request)
        if isinstance(reply, NewFile) and isinstance(reply.target, Vm):
            self.living.add(reply.target)
        return reply

    def read(self, target: Kept, span: slice) -> bytes:
        """The bytes of a file. KvmError: EINVAL for what cannot be read."""
        return files.read(target, span)

    def allocate(self, target: Kept, mode: int, offset: int, size: int) -> None:
        """fallocate(2). KvmError."""
        files.allocate(target, mode, offset, size)

    def gate(self, process: int) -> Gate:
        """The gate of a client process."""
        return self._gates.of(process)

    def run_door(self, vcpu: Vcpu, python_ioctl: int) -> RunDoor:
        """The run area and the native slot of a vCPU; once, before its file exists."""
        gate = self._gates.of(vcpu.vm.process)
        size = _file_size(vcpu.vm)
        memfd = os.memfd_create("kvmshim-run", os.MFD_CLOEXEC)
        try:
            os.ftruncate(memfd, size)
            slot = VcpuSlot(vcpu, memfd, python_ioctl, _SyncRegs(vcpu), gate)
        except BaseException:
            os.close(memfd)
            raise
        vcpu.signals = slot
        door = RunDoor(memfd, size, slot.native(), _shared_by_vcpus(vcpu.vm))
        self._run_doors[vcpu] = door, slot
        return door

    def vm_slot(self, vm: Vm, python_ioctl: int) -> NativeSlot:
        """The native slot of a VM; once, before its file exists."""
        slot = InterruptSlot(vm, python_ioctl, self._gates.of(vm.process))
        self._interrupts[vm] = slot
        return slot.native()

    def release(self, target: Kept) -> None:
        """The last file of `target` is closed, or could not be made; its session has ended."""
        if isinstance(target, Vcpu) and target in self._run_doors:
            door, slot = self._run_doors.pop(target)
            slot.close()
            os.close(door.memfd)
        if isinstance(target, Vm) and target in self._interrupts:
            self._interrupts.pop(target).close()
        files.release(target)
        vm = target if isinstance(target, Vm) else target.vm
        if not vm.files:
            self.living.remove(vm)


def _file_size(vm: Vm) -> int:
    """Bytes of a vCPU's file: that of KVM_GET_VCPU_MMAP_SIZE, or to the end of the dirty ring."""
    if not vm.dirty_ring_size:
        return VCPU_MMAP_SIZE
    return kvm.KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE + vm.dirty_ring_size


def _shared_by_vcpus(vm: Vm) -> list[Piece]:
    if not isinstance(vm.door, NativeVmDoor):
        return []
    offset = kvm.KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_SIZE
    return [Piece(offset, PAGE_SIZE, vm.door.coalesced_fd, 0)]
