"""KVM's ioctl numbers, by the kind of file descriptor that takes them.

Generated from `kvmshim/door/src/ioctls.rs` by `make gen`; do not edit.
"""

from typing import Final

# system
KVM_GET_API_VERSION: Final = 0xAE00
KVM_CREATE_VM: Final = 0xAE01
KVM_GET_MSR_INDEX_LIST: Final = 0xC004AE02
KVM_GET_VCPU_MMAP_SIZE: Final = 0xAE04
KVM_GET_SUPPORTED_CPUID: Final = 0xC008AE05
KVM_GET_EMULATED_CPUID: Final = 0xC008AE09
KVM_GET_MSR_FEATURE_INDEX_LIST: Final = 0xC004AE0A
KVM_X86_GET_MCE_CAP_SUPPORTED: Final = 0x8008AE9D

# system, vm
KVM_CHECK_EXTENSION: Final = 0xAE03

# system, vcpu, device
KVM_GET_DEVICE_ATTR: Final = 0x4018AEE2
KVM_HAS_DEVICE_ATTR: Final = 0x4018AEE3

# vcpu, device
KVM_SET_DEVICE_ATTR: Final = 0x4018AEE1

# system, vcpu
KVM_GET_MSRS: Final = 0xC008AE88
KVM_GET_SUPPORTED_HV_CPUID: Final = 0xC008AEC1

# vm, vcpu
KVM_SET_TSC_KHZ: Final = 0xAEA2
KVM_GET_TSC_KHZ: Final = 0xAEA3
KVM_ENABLE_CAP: Final = 0x4068AEA3
KVM_GET_STATS_FD: Final = 0xAECE

# vm
KVM_CREATE_VCPU: Final = 0xAE41
KVM_SET_USER_MEMORY_REGION: Final = 0x4020AE46
KVM_SET_USER_MEMORY_REGION2: Final = 0x40A0AE49
KVM_REGISTER_COALESCED_MMIO: Final = 0x4010AE67
KVM_UNREGISTER_COALESCED_MMIO: Final = 0x4010AE68
KVM_RESET_DIRTY_RINGS: Final = 0xAEC7
KVM_SET_MEMORY_ATTRIBUTES: Final = 0x4020AED2
KVM_CREATE_GUEST_MEMFD: Final = 0xC040AED4
KVM_SET_TSS_ADDR: Final = 0xAE47
KVM_SET_IDENTITY_MAP_ADDR: Final = 0x4008AE48
KVM_SET_BOOT_CPU_ID: Final = 0xAE78
KVM_GET_DIRTY_LOG: Final = 0x4010AE42
KVM_SET_NR_MMU_PAGES: Final = 0xAE44
KVM_GET_NR_MMU_PAGES: Final = 0xAE45
KVM_SET_CLOCK: Final = 0x4030AE7B
KVM_GET_CLOCK: Final = 0x8030AE7C
KVM_CLEAR_DIRTY_LOG: Final = 0xC018AEC0
KVM_X86_SET_MSR_FILTER: Final = 0x4188AEC6
KVM_CREATE_IRQCHIP: Final = 0xAE60
KVM_IRQ_LINE: Final = 0x4008AE61
KVM_GET_IRQCHIP: Final = 0xC208AE62
KVM_SET_IRQCHIP: Final = 0x8208AE63
KVM_IRQ_LINE_STATUS: Final = 0xC008AE67
KVM_SET_GSI_ROUTING: Final = 0x4008AE6A
KVM_REINJECT_CONTROL: Final = 0xAE71
KVM_IRQFD: Final = 0x4020AE76
KVM_CREATE_PIT: Final = 0xAE64
KVM_GET_PIT: Final = 0xC048AE65
KVM_SET_PIT: Final = 0x8048AE66
KVM_CREATE_DEVICE: Final = 0xC00CAEE0
KVM_CREATE_PIT2: Final = 0x4040AE77
KVM_GET_PIT2: Final = 0x8070AE9F
KVM_SET_PIT2: Final = 0x4070AEA0
KVM_SIGNAL_MSI: Final = 0x4020AEA5
KVM_IOEVENTFD: Final = 0x4040AE79
KVM_HYPERV_EVENTFD: Final = 0x4018AEBD

# vcpu
KVM_RUN: Final = 0xAE80
KVM_GET_REGS: Final = 0x8090AE81
KVM_SET_REGS: Final = 0x4090AE82
KVM_GET_SREGS: Final = 0x8138AE83
KVM_SET_SREGS: Final = 0x4138AE84
KVM_TRANSLATE: Final = 0xC018AE85
KVM_TRANSLATE2: Final = 0xC028AE87
KVM_INTERRUPT: Final = 0x4004AE86
KVM_SET_MSRS: Final = 0x4008AE89
KVM_SET_SIGNAL_MASK: Final = 0x4004AE8B
KVM_GET_FPU: Final = 0x81A0AE8C
KVM_SET_FPU: Final = 0x41A0AE8D
KVM_GET_LAPIC: Final = 0x8400AE8E
KVM_SET_LAPIC: Final = 0x4400AE8F
KVM_SET_CPUID: Final = 0x4008AE8A
KVM_SET_CPUID2: Final = 0x4008AE90
KVM_GET_CPUID2: Final = 0xC008AE91
KVM_GET_MP_STATE: Final = 0x8004AE98
KVM_SET_MP_STATE: Final = 0x4004AE99
KVM_NMI: Final = 0xAE9A
KVM_SET_GUEST_DEBUG: Final = 0x4048AE9B
KVM_X86_SETUP_MCE: Final = 0x4008AE9C
KVM_X86_SET_MCE: Final = 0x4040AE9E
KVM_GET_VCPU_EVENTS: Final = 0x8040AE9F
KVM_SET_VCPU_EVENTS: Final = 0x4040AEA0
KVM_GET_DEBUGREGS: Final = 0x8080AEA1
KVM_SET_DEBUGREGS: Final = 0x4080AEA2
KVM_GET_XSAVE: Final = 0x9000AEA4
KVM_SET_XSAVE: Final = 0x5000AEA5
KVM_GET_XCRS: Final = 0x8188AEA6
KVM_SET_XCRS: Final = 0x4188AEA7
KVM_TPR_ACCESS_REPORTING: Final = 0xC028AE92
KVM_SET_VAPIC_ADDR: Final = 0x4008AE93
KVM_SMI: Final = 0xAEB7
KVM_KVMCLOCK_CTRL: Final = 0xAEAD
KVM_GET_SREGS2: Final = 0x8140AECC
KVM_SET_SREGS2: Final = 0x4140AECD
KVM_PRE_FAULT_MEMORY: Final = 0xC040AED5
KVM_GET_XSAVE2: Final = 0x9000AECF
KVM_HYPERV_SET_TLB_FLUSH_INHIBIT: Final = 0x4008AED6

# vcpu, only in kvmshim: answered at once, the floor that KVM_RUN is measured against
KVMSHIM_ECHO: Final = 0x6B00

# not served: vm
KVM_SET_MEMORY_REGION: Final = 0x4018AE40
KVM_SET_MEMORY_ALIAS: Final = 0x4020AE43
KVM_ASSIGN_PCI_DEVICE: Final = 0x8040AE69
KVM_ASSIGN_DEV_IRQ: Final = 0x4040AE70
KVM_DEASSIGN_PCI_DEVICE: Final = 0x4040AE72
KVM_ASSIGN_SET_MSIX_NR: Final = 0x4008AE73
KVM_ASSIGN_SET_MSIX_ENTRY: Final = 0x4010AE74
KVM_DEASSIGN_DEV_IRQ: Final = 0x4040AE75
KVM_XEN_HVM_CONFIG: Final = 0x4038AE7A
KVM_ASSIGN_SET_INTX_MASK: Final = 0x4040AEA4
KVM_SET_PMU_EVENT_FILTER: Final = 0x4020AEB2
KVM_MEMORY_ENCRYPT_OP: Final = 0xC008AEBA
KVM_MEMORY_ENCRYPT_REG_REGION: Final = 0x8010AEBB
KVM_MEMORY_ENCRYPT_UNREG_REGION: Final = 0x8010AEBC
KVM_XEN_HVM_GET_ATTR: Final = 0xC048AEC8
KVM_XEN_HVM_SET_ATTR: Final = 0x4048AEC9
KVM_XEN_HVM_EVTCHN_SEND: Final = 0x400CAED0

# not served: vcpu
KVM_GET_ONE_REG: Final = 0x4010AEAB
KVM_SET_ONE_REG: Final = 0x4010AEAC
KVM_GET_REG_LIST: Final = 0xC008AEB0
KVM_GET_NESTED_STATE: Final = 0xC080AEBE
KVM_SET_NESTED_STATE: Final = 0x4080AEBF
KVM_XEN_VCPU_GET_ATTR: Final = 0xC048AECA
KVM_XEN_VCPU_SET_ATTR: Final = 0x4048AECB

TAKEN_BY: Final[dict[str, tuple[str, ...]]] = {
    "KVM_GET_API_VERSION": ("system",),
    "KVM_CREATE_VM": ("system",),
    "KVM_GET_MSR_INDEX_LIST": ("system",),
    "KVM_GET_VCPU_MMAP_SIZE": ("system",),
    "KVM_GET_SUPPORTED_CPUID": ("system",),
    "KVM_GET_EMULATED_CPUID": ("system",),
    "KVM_GET_MSR_FEATURE_INDEX_LIST": ("system",),
    "KVM_X86_GET_MCE_CAP_SUPPORTED": ("system",),
    "KVM_CHECK_EXTENSION": ("system", "vm"),
    "KVM_GET_DEVICE_ATTR": ("system", "vcpu", "device"),
    "KVM_HAS_DEVICE_ATTR": ("system", "vcpu", "device"),
    "KVM_SET_DEVICE_ATTR": ("vcpu", "device"),
    "KVM_GET_MSRS": ("system", "vcpu"),
    "KVM_GET_SUPPORTED_HV_CPUID": ("system", "vcpu"),
    "KVM_SET_TSC_KHZ": ("vm", "vcpu"),
    "KVM_GET_TSC_KHZ": ("vm", "vcpu"),
    "KVM_ENABLE_CAP": ("vm", "vcpu"),
    "KVM_GET_STATS_FD": ("vm", "vcpu"),
    "KVM_CREATE_VCPU": ("vm",),
    "KVM_SET_USER_MEMORY_REGION": ("vm",),
    "KVM_SET_USER_MEMORY_REGION2": ("vm",),
    "KVM_REGISTER_COALESCED_MMIO": ("vm",),
    "KVM_UNREGISTER_COALESCED_MMIO": ("vm",),
    "KVM_RESET_DIRTY_RINGS": ("vm",),
    "KVM_SET_MEMORY_ATTRIBUTES": ("vm",),
    "KVM_CREATE_GUEST_MEMFD": ("vm",),
    "KVM_SET_TSS_ADDR": ("vm",),
    "KVM_SET_IDENTITY_MAP_ADDR": ("vm",),
    "KVM_SET_BOOT_CPU_ID": ("vm",),
    "KVM_GET_DIRTY_LOG": ("vm",),
    "KVM_SET_NR_MMU_PAGES": ("vm",),
    "KVM_GET_NR_MMU_PAGES": ("vm",),
    "KVM_SET_CLOCK": ("vm",),
    "KVM_GET_CLOCK": ("vm",),
    "KVM_CLEAR_DIRTY_LOG": ("vm",),
    "KVM_X86_SET_MSR_FILTER": ("vm",),
    "KVM_CREATE_IRQCHIP": ("vm",),
    "KVM_IRQ_LINE": ("vm",),
    "KVM_GET_IRQCHIP": ("vm",),
    "KVM_SET_IRQCHIP": ("vm",),
    "KVM_IRQ_LINE_STATUS": ("vm",),
    "KVM_SET_GSI_ROUTING": ("vm",),
    "KVM_REINJECT_CONTROL": ("vm",),
    "KVM_IRQFD": ("vm",),
    "KVM_CREATE_PIT": ("vm",),
    "KVM_GET_PIT": ("vm",),
    "KVM_SET_PIT": ("vm",),
    "KVM_CREATE_DEVICE": ("vm",),
    "KVM_CREATE_PIT2": ("vm",),
    "KVM_GET_PIT2": ("vm",),
    "KVM_SET_PIT2": ("vm",),
    "KVM_SIGNAL_MSI": ("vm",),
    "KVM_IOEVENTFD": ("vm",),
    "KVM_HYPERV_EVENTFD": ("vm",),
    "KVM_RUN": ("vcpu",),
    "KVM_GET_REGS": ("vcpu",),
    "KVM_SET_REGS": ("vcpu",),
    "KVM_GET_SREGS": ("vcpu",),
    "KVM_SET_SREGS": ("vcpu",),
    "KVM_TRANSLATE": ("vcpu",),
    "KVM_TRANSLATE2": ("vcpu",),
    "KVM_INTERRUPT": ("vcpu",),
    "KVM_SET_MSRS": ("vcpu",),
    "KVM_SET_SIGNAL_MASK": ("vcpu",),
    "KVM_GET_FPU": ("vcpu",),
    "KVM_SET_FPU": ("vcpu",),
    "KVM_GET_LAPIC": ("vcpu",),
    "KVM_SET_LAPIC": ("vcpu",),
    "KVM_SET_CPUID": ("vcpu",),
    "KVM_SET_CPUID2": ("vcpu",),
    "KVM_GET_CPUID2": ("vcpu",),
    "KVM_GET_MP_STATE": ("vcpu",),
    "KVM_SET_MP_STATE": ("vcpu",),
    "KVM_NMI": ("vcpu",),
    "KVM_SET_GUEST_DEBUG": ("vcpu",),
    "KVM_X86_SETUP_MCE": ("vcpu",),
    "KVM_X86_SET_MCE": ("vcpu",),
    "KVM_GET_VCPU_EVENTS": ("vcpu",),
    "KVM_SET_VCPU_EVENTS": ("vcpu",),
    "KVM_GET_DEBUGREGS": ("vcpu",),
    "KVM_SET_DEBUGREGS": ("vcpu",),
    "KVM_GET_XSAVE": ("vcpu",),
    "KVM_SET_XSAVE": ("vcpu",),
    "KVM_GET_XCRS": ("vcpu",),
    "KVM_SET_XCRS": ("vcpu",),
    "KVM_TPR_ACCESS_REPORTING": ("vcpu",),
    "KVM_SET_VAPIC_ADDR": ("vcpu",),
    "KVM_SMI": ("vcpu",),
    "KVM_KVMCLOCK_CTRL": ("vcpu",),
    "KVM_GET_SREGS2": ("vcpu",),
    "KVM_SET_SREGS2": ("vcpu",),
    "KVM_PRE_FAULT_MEMORY": ("vcpu",),
    "KVM_GET_XSAVE2": ("vcpu",),
    "KVM_HYPERV_SET_TLB_FLUSH_INHIBIT": ("vcpu",),
    "KVM_SET_MEMORY_REGION": ("vm",),
    "KVM_SET_MEMORY_ALIAS": ("vm",),
    "KVM_ASSIGN_PCI_DEVICE": ("vm",),
    "KVM_ASSIGN_DEV_IRQ": ("vm",),
    "KVM_DEASSIGN_PCI_DEVICE": ("vm",),
    "KVM_ASSIGN_SET_MSIX_NR": ("vm",),
    "KVM_ASSIGN_SET_MSIX_ENTRY": ("vm",),
    "KVM_DEASSIGN_DEV_IRQ": ("vm",),
    "KVM_XEN_HVM_CONFIG": ("vm",),
    "KVM_ASSIGN_SET_INTX_MASK": ("vm",),
    "KVM_SET_PMU_EVENT_FILTER": ("vm",),
    "KVM_MEMORY_ENCRYPT_OP": ("vm",),
    "KVM_MEMORY_ENCRYPT_REG_REGION": ("vm",),
    "KVM_MEMORY_ENCRYPT_UNREG_REGION": ("vm",),
    "KVM_XEN_HVM_GET_ATTR": ("vm",),
    "KVM_XEN_HVM_SET_ATTR": ("vm",),
    "KVM_XEN_HVM_EVTCHN_SEND": ("vm",),
    "KVM_GET_ONE_REG": ("vcpu",),
    "KVM_SET_ONE_REG": ("vcpu",),
    "KVM_GET_REG_LIST": ("vcpu",),
    "KVM_GET_NESTED_STATE": ("vcpu",),
    "KVM_SET_NESTED_STATE": ("vcpu",),
    "KVM_XEN_VCPU_GET_ATTR": ("vcpu",),
    "KVM_XEN_VCPU_SET_ATTR": ("vcpu",),
}
"""The kinds of file descriptor that take an ioctl."""
