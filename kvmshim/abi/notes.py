"""What each capability announces, why others are 0, and why ioctls are not served.

One line each, for `kvmshim abi` and docs/support.md; `tests/table` wants one for every row.
"""

from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import limits, profiles

ANNOUNCED: Final[dict[int, str]] = {
    kvm.KVM_CAP_HLT: "HLT leaves KVM_RUN where the client has the interrupt controllers",
    kvm.KVM_CAP_USER_MEMORY: "KVM_SET_USER_MEMORY_REGION",
    kvm.KVM_CAP_SET_TSS_ADDR: "KVM_SET_TSS_ADDR; the pages stay the client's",
    kvm.KVM_CAP_EXT_CPUID: "KVM_GET_SUPPORTED_CPUID, KVM_SET_CPUID2",
    kvm.KVM_CAP_NR_VCPUS: "vCPUs that run at once: the processors of the machine",
    kvm.KVM_CAP_MMU_SHADOW_CACHE_CONTROL: "KVM_SET_NR_MMU_PAGES; every limit is kept",
    kvm.KVM_CAP_NR_MEMSLOTS: "memory slots of one address space",
    kvm.KVM_CAP_NOP_IO_DELAY: "port 0x80 needs no delay",
    kvm.KVM_CAP_MP_STATE: "KVM_GET_MP_STATE, KVM_SET_MP_STATE",
    kvm.KVM_CAP_USER_NMI: "KVM_NMI",
    kvm.KVM_CAP_SET_GUEST_DEBUG: "KVM_SET_GUEST_DEBUG",
    kvm.KVM_CAP_DESTROY_MEMORY_REGION_WORKS: "a slot of size 0 is deleted",
    kvm.KVM_CAP_JOIN_MEMORY_REGIONS_WORKS: "slots may be deleted and made anew as one",
    kvm.KVM_CAP_MCE: "banks of machine-check errors; KVM_X86_SETUP_MCE, KVM_X86_SET_MCE",
    kvm.KVM_CAP_SET_BOOT_CPU_ID: "KVM_SET_BOOT_CPU_ID",
    kvm.KVM_CAP_SET_IDENTITY_MAP_ADDR: "KVM_SET_IDENTITY_MAP_ADDR; the page stays the client's",
    kvm.KVM_CAP_INTERNAL_ERROR_DATA: "KVM_EXIT_INTERNAL_ERROR says more",
    kvm.KVM_CAP_ADJUST_CLOCK: "KVM_GET_CLOCK, KVM_SET_CLOCK, and the flags they know",
    kvm.KVM_CAP_VCPU_EVENTS: "KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS",
    kvm.KVM_CAP_INTR_SHADOW: "the interrupt shadow among the events",
    kvm.KVM_CAP_DEBUGREGS: "KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS",
    kvm.KVM_CAP_X86_ROBUST_SINGLESTEP: "single steps cross every instruction",
    kvm.KVM_CAP_ENABLE_CAP: "KVM_ENABLE_CAP of a vCPU",
    kvm.KVM_CAP_XSAVE: "KVM_GET_XSAVE, KVM_SET_XSAVE",
    kvm.KVM_CAP_XCRS: "KVM_GET_XCRS, KVM_SET_XCRS",
    kvm.KVM_CAP_TSC_CONTROL: "KVM_SET_TSC_KHZ of a vCPU",
    kvm.KVM_CAP_GET_TSC_KHZ: "KVM_GET_TSC_KHZ",
    kvm.KVM_CAP_SYNC_REGS: "the sets of registers that travel in kvm_run",
    kvm.KVM_CAP_MAX_VCPUS: "vCPUs of one VM",
    kvm.KVM_CAP_READONLY_MEM: "KVM_MEM_READONLY",
    kvm.KVM_CAP_X86_SMM: "KVM_SMI and system management mode",
    kvm.KVM_CAP_MULTI_ADDRESS_SPACE: "address spaces of memory slots; the second is SMM's",
    kvm.KVM_CAP_EXT_EMUL_CPUID: "KVM_GET_EMULATED_CPUID",
    kvm.KVM_CAP_ENABLE_CAP_VM: "KVM_ENABLE_CAP of a VM",
    kvm.KVM_CAP_CHECK_EXTENSION_VM: "KVM_CHECK_EXTENSION of a VM",
    kvm.KVM_CAP_VCPU_ATTRIBUTES: "attributes of a vCPU: the offset of its TSC",
    kvm.KVM_CAP_SYS_ATTRIBUTES: "attributes of /dev/kvm: XSAVE components",
    kvm.KVM_CAP_MAX_VCPU_ID: "vCPU ids are below it",
    kvm.KVM_CAP_IMMEDIATE_EXIT: "kvm_run.immediate_exit",
    kvm.KVM_CAP_GET_MSR_FEATURES: "KVM_GET_MSRS and KVM_GET_MSR_FEATURE_INDEX_LIST of /dev/kvm",
    kvm.KVM_CAP_MSR_PLATFORM_INFO: "MSR_PLATFORM_INFO can be taken from the guest",
    kvm.KVM_CAP_EXCEPTION_PAYLOAD: "pending exceptions are told from injected ones, with payload",
    kvm.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: "KVM_CLEAR_DIRTY_LOG, and the options it can have",
    kvm.KVM_CAP_X86_USER_SPACE_MSR: "refused MSR accesses may leave KVM_RUN",
    kvm.KVM_CAP_X86_MSR_FILTER: "KVM_X86_SET_MSR_FILTER",
    kvm.KVM_CAP_SET_GUEST_DEBUG2: "the flags that KVM_SET_GUEST_DEBUG knows",
    kvm.KVM_CAP_SREGS2: "KVM_GET_SREGS2, KVM_SET_SREGS2",
    kvm.KVM_CAP_BINARY_STATS_FD: "KVM_GET_STATS_FD",
    kvm.KVM_CAP_IOEVENTFD: "KVM_IOEVENTFD",
    kvm.KVM_CAP_IOEVENTFD_ANY_LENGTH: "ioeventfds of length 0 match every length",
    kvm.KVM_CAP_COALESCED_MMIO: "KVM_REGISTER_COALESCED_MMIO; the page of the ring",
    kvm.KVM_CAP_COALESCED_PIO: "the same for ports",
    kvm.KVM_CAP_DIRTY_LOG_RING: "bytes of the largest dirty ring; KVM_RESET_DIRTY_RINGS",
    kvm.KVM_CAP_DIRTY_LOG_RING_ACQ_REL: "the same for who orders the accesses",
    kvm.KVM_CAP_VAPIC: "KVM_TPR_ACCESS_REPORTING, KVM_SET_VAPIC_ADDR",
    kvm.KVM_CAP_KVMCLOCK_CTRL: "KVM_KVMCLOCK_CTRL",
    kvm.KVM_CAP_ENFORCE_PV_FEATURE_CPUID: "guests get only what their CPUID has of KVM's own",
    kvm.KVM_CAP_EXIT_HYPERCALL: "KVM_HC_MAP_GPA_RANGE leaves with KVM_EXIT_HYPERCALL",
    kvm.KVM_CAP_HYPERV: "guests of Hyper-V: its MSRs and hypercalls",
    kvm.KVM_CAP_HYPERV_VAPIC: "their assist page, and registers of the local APIC as MSRs",
    kvm.KVM_CAP_HYPERV_SPIN: "they tell of spin locks that are held for long",
    kvm.KVM_CAP_HYPERV_TIME: "their reference time, as an MSR and as a page",
    kvm.KVM_CAP_HYPERV_SYNIC: "their synthetic interrupt controllers and timers",
    kvm.KVM_CAP_HYPERV_SYNIC2: "the same, and named pages are not cleared",
    kvm.KVM_CAP_HYPERV_EVENTFD: "KVM_HYPERV_EVENTFD",
    kvm.KVM_CAP_HYPERV_VP_INDEX: "their numbers of processors, which KVM_SET_MSRS sets",
    kvm.KVM_CAP_HYPERV_TLBFLUSH: "they flush translations of other processors by hypercall",
    kvm.KVM_CAP_HYPERV_SEND_IPI: "they send interrupts to sets of processors by hypercall",
    kvm.KVM_CAP_HYPERV_CPUID: "KVM_GET_SUPPORTED_HV_CPUID of a vCPU",
    kvm.KVM_CAP_SYS_HYPERV_CPUID: "KVM_GET_SUPPORTED_HV_CPUID of /dev/kvm",
    kvm.KVM_CAP_HYPERV_ENFORCE_CPUID: "guests get only what their CPUID has of Hyper-V's",
    profiles.KVM_CAP_HYPERV_TLB_FLUSH_INHIBIT: (
        "KVM_TRANSLATE2, KVM_HYPERV_SET_TLB_FLUSH_INHIBIT; see --profile"
    ),
    kvm.KVM_CAP_IRQCHIP: "KVM_CREATE_IRQCHIP: PIC, IOAPIC and local APICs",
    kvm.KVM_CAP_PIT: "KVM_CREATE_PIT",
    kvm.KVM_CAP_PIT2: "KVM_CREATE_PIT2",
    kvm.KVM_CAP_PIT_STATE2: "KVM_GET_PIT2, KVM_SET_PIT2",
    kvm.KVM_CAP_REINJECT_CONTROL: "KVM_REINJECT_CONTROL",
    kvm.KVM_CAP_IRQ_ROUTING: "routes of KVM_SET_GSI_ROUTING",
    kvm.KVM_CAP_IRQ_INJECT_STATUS: "KVM_IRQ_LINE_STATUS",
    kvm.KVM_CAP_IRQFD: "KVM_IRQFD",
    kvm.KVM_CAP_IRQFD_RESAMPLE: "level-triggered irqfds",
    kvm.KVM_CAP_SIGNAL_MSI: "KVM_SIGNAL_MSI",
    kvm.KVM_CAP_SPLIT_IRQCHIP: "local APICs here, the rest the client's",
    kvm.KVM_CAP_TSC_DEADLINE_TIMER: "the APIC timer's TSC-deadline mode",
    kvm.KVM_CAP_X2APIC_API: "flags of x2APIC ids that are longer than 8 bits",
    kvm.KVM_CAP_USER_MEMORY2: "KVM_SET_USER_MEMORY_REGION2",
    kvm.KVM_CAP_MEMORY_FAULT_INFO: "KVM_RUN that fails with EFAULT says where",
    kvm.KVM_CAP_MEMORY_ATTRIBUTES: "KVM_SET_MEMORY_ATTRIBUTES; 0 for a VM that has no such memory",
    kvm.KVM_CAP_GUEST_MEMFD: "KVM_CREATE_GUEST_MEMFD; 0 for a VM that has no such memory",
    kvm.KVM_CAP_VM_TYPES: "types of KVM_CREATE_VM",
    kvm.KVM_CAP_PRE_FAULT_MEMORY: "KVM_PRE_FAULT_MEMORY",
    kvm.KVM_CAP_XSAVE2: "bytes of KVM_GET_XSAVE2",
    kvm.KVM_CAP_VM_TSC_CONTROL: "KVM_SET_TSC_KHZ of a VM",
    kvm.KVM_CAP_DISABLE_QUIRKS: "KVM_ENABLE_CAP takes the quirks that are to be off",
    kvm.KVM_CAP_DISABLE_QUIRKS2: "the quirks that can be off",
    kvm.KVM_CAP_X86_TRIPLE_FAULT_EVENT: "a triple fault among the events",
    limits.KVMSHIM_CAP_IDENTITY: "this is kvmshim; Linux answers 0",
}
"""What a capability that is not 0 announces, and what its number counts."""

_XEN: Final = "no Xen interface"
_SEV: Final = "no memory encryption"
_PMU: Final = "the guest has no performance counters"
_NESTED: Final = "no nested virtualization"
_HARDWARE: Final = "nothing to control: no hardware is behind it"
_SOON: Final = "not yet"

NOT_ANNOUNCED: Final[dict[int, str]] = {
    kvm.KVM_CAP_PV_MMU: "gone from Linux",
    kvm.KVM_CAP_SYNC_MMU: "a slot is the memory that was there when it was set",
    kvm.KVM_CAP_PCI_SEGMENT: "no device assignment",
    kvm.KVM_CAP_XEN_HVM: _XEN,
    kvm.KVM_CAP_HYPERV_ENLIGHTENED_VMCS: _NESTED,
    kvm.KVM_CAP_HYPERV_DIRECT_TLBFLUSH: _NESTED,
    kvm.KVM_CAP_NESTED_STATE: _NESTED,
    kvm.KVM_CAP_PMU_EVENT_FILTER: _PMU,
    kvm.KVM_CAP_PMU_CAPABILITY: _PMU,
    kvm.KVM_CAP_PMU_EVENT_MASKED_EVENTS: _PMU,
    kvm.KVM_CAP_SGX_ATTRIBUTE: "no enclaves",
    kvm.KVM_CAP_VM_COPY_ENC_CONTEXT_FROM: _SEV,
    kvm.KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM: _SEV,
    kvm.KVM_CAP_SMALLER_MAXPHYADDR: "physical addresses are as wide as the client says",
    kvm.KVM_CAP_X86_BUS_LOCK_EXIT: "bus locks are not counted",
    kvm.KVM_CAP_X86_NOTIFY_VMEXIT: _HARDWARE,
    kvm.KVM_CAP_VM_DISABLE_NX_HUGE_PAGES: _HARDWARE,
}
"""Why a capability that Linux may announce on x86 is 0."""

_GONE: Final = "gone from Linux"
_NOT_X86: Final = "Linux has it on other architectures"

NOT_LINUX_EITHER: Final = {_GONE, _NOT_X86}
"""Reasons that hold for Linux on x86 too."""

NOT_SERVED: Final[dict[str, str]] = {
    "KVM_XEN_HVM_CONFIG": _XEN,
    "KVM_XEN_HVM_GET_ATTR": _XEN,
    "KVM_XEN_HVM_SET_ATTR": _XEN,
    "KVM_XEN_HVM_EVTCHN_SEND": _XEN,
    "KVM_XEN_VCPU_GET_ATTR": _XEN,
    "KVM_XEN_VCPU_SET_ATTR": _XEN,
    "KVM_MEMORY_ENCRYPT_OP": _SEV,
    "KVM_MEMORY_ENCRYPT_REG_REGION": _SEV,
    "KVM_MEMORY_ENCRYPT_UNREG_REGION": _SEV,
    "KVM_SET_PMU_EVENT_FILTER": _PMU,
    "KVM_GET_NESTED_STATE": _NESTED,
    "KVM_SET_NESTED_STATE": _NESTED,
    "KVM_GET_ONE_REG": _NOT_X86,
    "KVM_SET_ONE_REG": _NOT_X86,
    "KVM_GET_REG_LIST": _NOT_X86,
    "KVM_SET_MEMORY_REGION": _GONE,
    "KVM_SET_MEMORY_ALIAS": _GONE,
    "KVM_ASSIGN_PCI_DEVICE": _GONE,
    "KVM_ASSIGN_DEV_IRQ": _GONE,
    "KVM_DEASSIGN_PCI_DEVICE": _GONE,
    "KVM_ASSIGN_SET_MSIX_NR": _GONE,
    "KVM_ASSIGN_SET_MSIX_ENTRY": _GONE,
    "KVM_DEASSIGN_DEV_IRQ": _GONE,
    "KVM_ASSIGN_SET_INTX_MASK": _GONE,
}
"""Why an ioctl is not there."""
