"""A virtual machine: its hypercall id, its memory slots, its vCPUs.

A VM lives as long as its own file or one of its vCPUs' files is open, as in KVM. `lock` is held
for anything that reads or changes slots and vCPUs (KVM's `slots_lock` and `kvm->lock`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvmshim.abi import constants_gen as kvm
from kvmshim.platform.caller import SharedMemory
from microv import abi_gen as mv

if TYPE_CHECKING:
    from kvmshim.objects.vcpu import Vcpu


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


@dataclass(eq=False, slots=True)
class Vm:
    """One VM. `process` is the client that made it: KVM refuses every other one."""

    vmid: int
    process: int
    slots: dict[int, Slot] = field(default_factory=dict)
    vcpus: dict[int, Vcpu] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    boot_vcpu_id: int = 0
    """The vCPU that begins as the boot processor."""
    vcpu_id_bound: int = 0
    """What KVM_CAP_MAX_VCPU_ID was enabled with; 0 until then."""
    manual_dirty_log: int = 0
    """KVM_DIRTY_LOG_*; not 0: only KVM_CLEAR_DIRTY_LOG makes pages clean."""
    exception_payload: bool = False
    triple_fault_event: bool = False
    mmu_pages: int = 0
    """What KVM_SET_NR_MMU_PAGES was given."""
    tsc_khz: int = 0
    """Frequency of the time-stamp counter of new vCPUs; 0 is the host's."""
    files: int = 1
    """Open files that keep the VM: its own and its vCPUs'."""
