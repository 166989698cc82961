"""What KVM_CHECK_EXTENSION answers, one row each. A capability without a row is 0.

A row is a promise: VMMs use at once what is announced, so a row lands with what it announces.
"""

import os
from ctypes import sizeof
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import limits, profiles
from kvmshim.abi.structs_gen import kvm_dirty_gfn, kvm_xsave

_CLOCK_FLAGS: Final = kvm.KVM_CLOCK_TSC_STABLE | kvm.KVM_CLOCK_REALTIME | kvm.KVM_CLOCK_HOST_TSC
_DIRTY_RING_BYTES: Final = limits.KVM_DIRTY_RING_MAX_ENTRIES * sizeof(kvm_dirty_gfn)

CAPABILITIES: Final[dict[int, int]] = {
    kvm.KVM_CAP_IRQCHIP: 1,
    kvm.KVM_CAP_HLT: 1,
    kvm.KVM_CAP_USER_MEMORY: 1,
    kvm.KVM_CAP_SET_TSS_ADDR: 1,
    kvm.KVM_CAP_EXT_CPUID: 1,
    # The recommended number of vCPUs: as many as run at once.
    kvm.KVM_CAP_NR_VCPUS: min(os.cpu_count() or 1, limits.KVM_MAX_VCPUS),
    kvm.KVM_CAP_PIT: 1,
    kvm.KVM_CAP_MMU_SHADOW_CACHE_CONTROL: 1,
    kvm.KVM_CAP_NR_MEMSLOTS: limits.KVM_USER_MEM_SLOTS,
    kvm.KVM_CAP_NOP_IO_DELAY: 1,
    kvm.KVM_CAP_MP_STATE: 1,
    kvm.KVM_CAP_USER_NMI: 1,
    kvm.KVM_CAP_SET_GUEST_DEBUG: 1,
    # Lines that can be routed.
    kvm.KVM_CAP_IRQ_ROUTING: limits.KVM_MAX_IRQ_ROUTES,
    kvm.KVM_CAP_IRQ_INJECT_STATUS: 1,
    kvm.KVM_CAP_DESTROY_MEMORY_REGION_WORKS: 1,
    kvm.KVM_CAP_JOIN_MEMORY_REGIONS_WORKS: 1,
    # Banks of errors.
    kvm.KVM_CAP_MCE: limits.KVM_MAX_MCE_BANKS,
    kvm.KVM_CAP_IRQFD: 1,
    kvm.KVM_CAP_PIT2: 1,
    kvm.KVM_CAP_PIT_STATE2: 1,
    kvm.KVM_CAP_REINJECT_CONTROL: 1,
    kvm.KVM_CAP_SET_BOOT_CPU_ID: 1,
    kvm.KVM_CAP_SET_IDENTITY_MAP_ADDR: 1,
    kvm.KVM_CAP_INTERNAL_ERROR_DATA: 1,
    kvm.KVM_CAP_ADJUST_CLOCK: _CLOCK_FLAGS,
    kvm.KVM_CAP_VCPU_EVENTS: 1,
    kvm.KVM_CAP_INTR_SHADOW: 1,
    kvm.KVM_CAP_DEBUGREGS: 1,
    kvm.KVM_CAP_X86_ROBUST_SINGLESTEP: 1,
    kvm.KVM_CAP_ENABLE_CAP: 1,
    kvm.KVM_CAP_XSAVE: 1,
    kvm.KVM_CAP_XCRS: 1,
    kvm.KVM_CAP_TSC_CONTROL: 1,
    kvm.KVM_CAP_GET_TSC_KHZ: 1,
    kvm.KVM_CAP_TSC_DEADLINE_TIMER: 1,
    kvm.KVM_CAP_SIGNAL_MSI: 1,
    kvm.KVM_CAP_IRQFD_RESAMPLE: 1,
    kvm.KVM_CAP_SPLIT_IRQCHIP: 1,
    kvm.KVM_CAP_X2APIC_API: (
        kvm.KVM_X2APIC_API_USE_32BIT_IDS | kvm.KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK
    ),
    kvm.KVM_CAP_SYNC_REGS: (
        kvm.KVM_SYNC_X86_REGS | kvm.KVM_SYNC_X86_SREGS | kvm.KVM_SYNC_X86_EVENTS
    ),
    kvm.KVM_CAP_KVMCLOCK_CTRL: 1,
    kvm.KVM_CAP_IOEVENTFD: 1,
    kvm.KVM_CAP_IOEVENTFD_ANY_LENGTH: 1,
    kvm.KVM_CAP_MAX_VCPUS: limits.KVM_MAX_VCPUS,
    kvm.KVM_CAP_READONLY_MEM: 1,
    kvm.KVM_CAP_X86_SMM: 1,
    kvm.KVM_CAP_MULTI_ADDRESS_SPACE: limits.KVM_ADDRESS_SPACES,
    kvm.KVM_CAP_EXT_EMUL_CPUID: 1,
    kvm.KVM_CAP_ENABLE_CAP_VM: 1,
    kvm.KVM_CAP_CHECK_EXTENSION_VM: 1,
    # The page of the vCPU's file that has the ring.
    kvm.KVM_CAP_COALESCED_MMIO: kvm.KVM_COALESCED_MMIO_PAGE_OFFSET,
    kvm.KVM_CAP_COALESCED_PIO: 1,
    # Bytes of the largest ring.
    kvm.KVM_CAP_DIRTY_LOG_RING: _DIRTY_RING_BYTES,
    kvm.KVM_CAP_DIRTY_LOG_RING_ACQ_REL: _DIRTY_RING_BYTES,
    kvm.KVM_CAP_USER_MEMORY2: 1,
    kvm.KVM_CAP_MEMORY_FAULT_INFO: 1,
    kvm.KVM_CAP_MEMORY_ATTRIBUTES: kvm.KVM_MEMORY_ATTRIBUTE_PRIVATE,
    kvm.KVM_CAP_GUEST_MEMFD: 1,
    kvm.KVM_CAP_VM_TYPES: 1 << kvm.KVM_X86_DEFAULT_VM | 1 << kvm.KVM_X86_SW_PROTECTED_VM,
    kvm.KVM_CAP_PRE_FAULT_MEMORY: 1,
    kvm.KVM_CAP_VCPU_ATTRIBUTES: 1,
    kvm.KVM_CAP_SYS_ATTRIBUTES: 1,
    kvm.KVM_CAP_MAX_VCPU_ID: limits.KVM_MAX_VCPU_IDS,
    kvm.KVM_CAP_IMMEDIATE_EXIT: 1,
    kvm.KVM_CAP_DISABLE_QUIRKS: 1,
    kvm.KVM_CAP_GET_MSR_FEATURES: 1,
    kvm.KVM_CAP_MSR_PLATFORM_INFO: 1,
    kvm.KVM_CAP_EXCEPTION_PAYLOAD: 1,
    kvm.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: (
        kvm.KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | kvm.KVM_DIRTY_LOG_INITIALLY_SET
    ),
    kvm.KVM_CAP_X86_USER_SPACE_MSR: 1,
    kvm.KVM_CAP_X86_MSR_FILTER: 1,
    kvm.KVM_CAP_VAPIC: 1,
    kvm.KVM_CAP_ENFORCE_PV_FEATURE_CPUID: 1,
    kvm.KVM_CAP_HYPERV: 1,
    kvm.KVM_CAP_HYPERV_VAPIC: 1,
    kvm.KVM_CAP_HYPERV_SPIN: 1,
    kvm.KVM_CAP_HYPERV_TIME: 1,
    kvm.KVM_CAP_HYPERV_SYNIC: 1,
    kvm.KVM_CAP_HYPERV_SYNIC2: 1,
    kvm.KVM_CAP_HYPERV_EVENTFD: 1,
    kvm.KVM_CAP_HYPERV_VP_INDEX: 1,
    kvm.KVM_CAP_HYPERV_TLBFLUSH: 1,
    kvm.KVM_CAP_HYPERV_SEND_IPI: 1,
    kvm.KVM_CAP_HYPERV_CPUID: 1,
    kvm.KVM_CAP_SYS_HYPERV_CPUID: 1,
    kvm.KVM_CAP_HYPERV_ENFORCE_CPUID: 1,
    profiles.KVM_CAP_HYPERV_TLB_FLUSH_INHIBIT: 1,
    kvm.KVM_CAP_EXIT_HYPERCALL: limits.KVM_EXIT_HYPERCALL_VALID_MASK,
    kvm.KVM_CAP_SET_GUEST_DEBUG2: (
        kvm.KVM_GUESTDBG_ENABLE
        | kvm.KVM_GUESTDBG_SINGLESTEP
        | kvm.KVM_GUESTDBG_USE_SW_BP
        | kvm.KVM_GUESTDBG_USE_HW_BP
        | kvm.KVM_GUESTDBG_INJECT_DB
        | kvm.KVM_GUESTDBG_INJECT_BP
        | kvm.KVM_GUESTDBG_BLOCKIRQ
    ),
    kvm.KVM_CAP_SREGS2: 1,
    kvm.KVM_CAP_BINARY_STATS_FD: 1,
    # Bytes of KVM_GET_XSAVE2.
    kvm.KVM_CAP_XSAVE2: sizeof(kvm_xsave),
    kvm.KVM_CAP_DISABLE_QUIRKS2: (
        kvm.KVM_X86_QUIRK_LINT0_REENABLED
        | kvm.KVM_X86_QUIRK_CD_NW_CLEARED
        | kvm.KVM_X86_QUIRK_LAPIC_MMIO_HOLE
        | kvm.KVM_X86_QUIRK_OUT_7E_INC_RIP
        | kvm.KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT
        | kvm.KVM_X86_QUIRK_FIX_HYPERCALL_INSN
        | kvm.KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS
    ),
    kvm.KVM_CAP_VM_TSC_CONTROL: 1,
    kvm.KVM_CAP_X86_TRIPLE_FAULT_EVENT: 1,
    limits.KVMSHIM_CAP_IDENTITY: limits.KVMSHIM_CAP_IDENTITY,
}
