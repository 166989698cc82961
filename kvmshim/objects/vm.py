"""A virtual machine: its hypercall id, its memory slots, its vCPUs.

A VM lives as long as its own file or one of its vCPUs' files is open, as in KVM. `lock` is held
for anything that reads or changes slots and vCPUs (KVM's `slots_lock` and `kvm->lock`).
"""

from __future__ import annotations

import errno
import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import limits
from kvmshim.errors import KvmError
from kvmshim.objects.intervals import Intervals
from kvmshim.platform.caller import SharedMemory
from kvmshim.platform.eventfds import Eventfds
from kvmshim.platform.vm_door import VmDoor
from microv import abi_gen as mv

if TYPE_CHECKING:
    from kvmshim.objects.guest_memory import GuestMemory
    from kvmshim.objects.vcpu import Vcpu


class Irqchip(Enum):
    """Which interrupt controllers are behind the VM."""

    NONE = 0
    """None: the client emulates them all."""
    KERNEL = 1
    """All: PIC pair, IOAPIC, local APICs."""
    SPLIT = 2
    """Local APICs; the rest is the client's."""


@dataclass(frozen=True, slots=True)
class PrivateMemory:
    """The part of a guest_memfd that is a slot's memory where the guest's pages are private."""

    of: GuestMemory
    offset: int
    memory: SharedMemory


@dataclass(frozen=True, slots=True)
class Slot:
    """One memory slot: guest-physical [gpa, gpa + size) is the client's [hva, hva + size)."""

    number: int
    """Bits 15:0 the slot, bits 31:16 the address space: 1 is that of system management mode."""
    flags: int
    gpa: int
    size: int
    hva: int
    memory: SharedMemory
    private: PrivateMemory | None = None

    def close(self) -> None:
        """Lets go of the slot's memory, which no engine uses any more."""
        self.memory.close()
        if self.private:
            self.private.memory.close()

    @property
    def logs_writes(self) -> bool:
        """Whether the slot has a dirty log."""
        return bool(self.flags & kvm.KVM_MEM_LOG_DIRTY_PAGES)

    @property
    def space(self) -> int:
        """The address space."""
        return self.number >> 16

    @property
    def mv_gpa(self) -> int:
        """Where hypercalls find the slot: `gpa`, with MV_GPA_SMM in address space 1."""
        return self.gpa | (mv.MV_GPA_SMM if self.space else 0)

    def overlaps(self, space: int, gpa: int, size: int) -> bool:
        """Whether the slot shares a guest-physical byte with [gpa, gpa + size) of `space`."""
        return self.space == space and self.gpa < gpa + size and gpa < self.gpa + self.size


@dataclass(frozen=True, slots=True)
class TscWrite:
    """The last write of a vCPU's time-stamp counter by the client, or a new vCPU's begin."""

    khz: int
    offset: int
    """What the counter is ahead of the host's, once that is scaled; mod 2^64."""
    value: int
    unmoved: int
    """The host's counter at that moment, scaled."""

    def is_near(self, value: int, unmoved: int) -> bool:
        """Whether `value` is meant to be the same counter later, when the host's is `unmoved`."""
        ahead = value - self.value - (unmoved - self.unmoved)
        return value == 0 or abs(ahead) < self.khz * 1000


@dataclass(eq=False, slots=True)
class Vm:
    """One VM. `process` is the client that made it: KVM refuses every other one."""

    vmid: int
    process: int
    door: VmDoor
    machine_type: int = kvm.KVM_X86_DEFAULT_VM
    private: Intervals = field(default_factory=Intervals)
    """Guest-physical addresses with KVM_MEMORY_ATTRIBUTE_PRIVATE."""
    slots: dict[int, Slot] = field(default_factory=dict)
    vcpus: dict[int, Vcpu] = field(default_factory=dict)
    irqchip: Irqchip = Irqchip.NONE
    x2apic_api: int = 0
    """KVM_X2APIC_API_*."""
    has_pit: bool = False
    eventfds: Eventfds | None = None
    """From the first KVM_IRQFD or KVM_IOEVENTFD on."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    boot_vcpu_id: int = 0
    """The vCPU that begins as the boot processor."""
    vcpu_id_bound: int = 0
    """What KVM_CAP_MAX_VCPU_ID was enabled with; 0 until then."""
    manual_dirty_log: int = 0
    """KVM_DIRTY_LOG_*; not 0: only KVM_CLEAR_DIRTY_LOG makes pages clean."""
    dirty_ring_size: int = 0
    """Bytes of each vCPU's dirty ring; 0: there are none."""
    exception_payload: bool = False
    triple_fault_event: bool = False
    mmu_pages: int = 0
    """What KVM_SET_NR_MMU_PAGES was given."""
    tsc_write: TscWrite | None = None
    tsc_khz: int = 0
    """Frequency of the time-stamp counter of new vCPUs; 0 is the host's."""
    files: int = 1
    """Open files that keep the VM: its own, its vCPUs', and others made by its ioctls."""

    def check_takes_irqchip(self) -> None:
        """Errors: EEXIST (there are interrupt controllers), EINVAL (there is a vCPU)."""
        if self.irqchip is not Irqchip.NONE:
            raise KvmError(errno.EEXIST, "the VM has interrupt controllers")
        if self.vcpus:
            raise KvmError(errno.EINVAL, "interrupt controllers come before vCPUs")

    @property
    def has_private_memory(self) -> bool:
        """Whether pages of the guest can be private."""
        return self.machine_type == kvm.KVM_X86_SW_PROTECTED_VM

    @property
    def address_spaces(self) -> int:
        """How many there are; that of system management mode has no private memory."""
        return 1 if self.has_private_memory else limits.KVM_ADDRESS_SPACES
