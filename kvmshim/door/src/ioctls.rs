//! KVM's ioctl numbers (`Documentation/virt/kvm/api.rst`, `linux/kvm.h`), by the kind of fd.
//!
//! A number is direction, size, type and index, as `asm-generic/ioctl.h` packs them; sizes come
//! from the structures themselves. `tools/gen` prints the table as `kvmshim/abi/ioctls_gen.py`.
#![allow(missing_docs, reason = "the names are the kernel's")]

use kvm_bindings as kvm;

use crate::series;

const KVMIO: u32 = 0xAE;
/// The type of the ioctls that only kvmshim has ("k").
const KVMSHIMIO: u32 = 0x6B;

const NONE: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

const fn number(direction: u32, kind: u32, index: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | kind << 8 | index
}

macro_rules! ioctls {
    ($($fd:literal { $($name:ident = $kind:ident $index:literal, $direction:expr $(, $type:ty)?;)* })*) => {
        $($(pub const $name: u32 = number($direction, $kind, $index, 0 $(+ size_of::<$type>())?);)*)*

        /// Kind of fd, name, number.
        pub const TABLE: &[(&str, &str, u32)] =
            &[$($(($fd, stringify!($name), $name),)*)*];
    };
}

pub mod not_served;

ioctls! {
    "system" {
        KVM_GET_API_VERSION = KVMIO 0x00, NONE;
        KVM_CREATE_VM = KVMIO 0x01, NONE;
        KVM_GET_MSR_INDEX_LIST = KVMIO 0x02, READ | WRITE, kvm::kvm_msr_list;
        KVM_GET_VCPU_MMAP_SIZE = KVMIO 0x04, NONE;
        KVM_GET_SUPPORTED_CPUID = KVMIO 0x05, READ | WRITE, kvm::kvm_cpuid2;
        KVM_GET_EMULATED_CPUID = KVMIO 0x09, READ | WRITE, kvm::kvm_cpuid2;
        KVM_GET_MSR_FEATURE_INDEX_LIST = KVMIO 0x0a, READ | WRITE, kvm::kvm_msr_list;
        KVM_X86_GET_MCE_CAP_SUPPORTED = KVMIO 0x9d, READ, u64;
    }
    "system, vm" {
        KVM_CHECK_EXTENSION = KVMIO 0x03, NONE;
    }
    "system, vcpu, device" {
        KVM_GET_DEVICE_ATTR = KVMIO 0xe2, WRITE, kvm::kvm_device_attr;
        KVM_HAS_DEVICE_ATTR = KVMIO 0xe3, WRITE, kvm::kvm_device_attr;
    }
    "vcpu, device" {
        KVM_SET_DEVICE_ATTR = KVMIO 0xe1, WRITE, kvm::kvm_device_attr;
    }
    "system, vcpu" {
        KVM_GET_MSRS = KVMIO 0x88, READ | WRITE, kvm::kvm_msrs;
        KVM_GET_SUPPORTED_HV_CPUID = KVMIO 0xc1, READ | WRITE, kvm::kvm_cpuid2;
    }
    "vm, vcpu" {
        KVM_SET_TSC_KHZ = KVMIO 0xa2, NONE;
        KVM_GET_TSC_KHZ = KVMIO 0xa3, NONE;
        KVM_ENABLE_CAP = KVMIO 0xa3, WRITE, kvm::kvm_enable_cap;
        KVM_GET_STATS_FD = KVMIO 0xce, NONE;
    }
    "vm" {
        KVM_CREATE_VCPU = KVMIO 0x41, NONE;
        KVM_SET_USER_MEMORY_REGION = KVMIO 0x46, WRITE, kvm::kvm_userspace_memory_region;
        KVM_SET_USER_MEMORY_REGION2 = KVMIO 0x49, WRITE, kvm::kvm_userspace_memory_region2;
        KVM_REGISTER_COALESCED_MMIO = KVMIO 0x67, WRITE, kvm::kvm_coalesced_mmio_zone;
        KVM_UNREGISTER_COALESCED_MMIO = KVMIO 0x68, WRITE, kvm::kvm_coalesced_mmio_zone;
        KVM_RESET_DIRTY_RINGS = KVMIO 0xc7, NONE;
        KVM_SET_MEMORY_ATTRIBUTES = KVMIO 0xd2, WRITE, kvm::kvm_memory_attributes;
        KVM_CREATE_GUEST_MEMFD = KVMIO 0xd4, READ | WRITE, kvm::kvm_create_guest_memfd;
        KVM_SET_TSS_ADDR = KVMIO 0x47, NONE;
        KVM_SET_IDENTITY_MAP_ADDR = KVMIO 0x48, WRITE, u64;
        KVM_SET_BOOT_CPU_ID = KVMIO 0x78, NONE;
        KVM_GET_DIRTY_LOG = KVMIO 0x42, WRITE, kvm::kvm_dirty_log;
        KVM_SET_NR_MMU_PAGES = KVMIO 0x44, NONE;
        KVM_GET_NR_MMU_PAGES = KVMIO 0x45, NONE;
        KVM_SET_CLOCK = KVMIO 0x7b, WRITE, kvm::kvm_clock_data;
        KVM_GET_CLOCK = KVMIO 0x7c, READ, kvm::kvm_clock_data;
        KVM_CLEAR_DIRTY_LOG = KVMIO 0xc0, READ | WRITE, kvm::kvm_clear_dirty_log;
        KVM_X86_SET_MSR_FILTER = KVMIO 0xc6, WRITE, kvm::kvm_msr_filter;
        KVM_CREATE_IRQCHIP = KVMIO 0x60, NONE;
        KVM_IRQ_LINE = KVMIO 0x61, WRITE, kvm::kvm_irq_level;
        KVM_GET_IRQCHIP = KVMIO 0x62, READ | WRITE, kvm::kvm_irqchip;
        KVM_SET_IRQCHIP = KVMIO 0x63, READ, kvm::kvm_irqchip;
        KVM_IRQ_LINE_STATUS = KVMIO 0x67, READ | WRITE, kvm::kvm_irq_level;
        KVM_SET_GSI_ROUTING = KVMIO 0x6a, WRITE, kvm::kvm_irq_routing;
        KVM_REINJECT_CONTROL = KVMIO 0x71, NONE;
        KVM_IRQFD = KVMIO 0x76, WRITE, kvm::kvm_irqfd;
        KVM_CREATE_PIT = KVMIO 0x64, NONE;
        KVM_GET_PIT = KVMIO 0x65, READ | WRITE, kvm::kvm_pit_state;
        KVM_SET_PIT = KVMIO 0x66, READ, kvm::kvm_pit_state;
        KVM_CREATE_DEVICE = KVMIO 0xe0, READ | WRITE, kvm::kvm_create_device;
        KVM_CREATE_PIT2 = KVMIO 0x77, WRITE, kvm::kvm_pit_config;
        KVM_GET_PIT2 = KVMIO 0x9f, READ, kvm::kvm_pit_state2;
        KVM_SET_PIT2 = KVMIO 0xa0, WRITE, kvm::kvm_pit_state2;
        KVM_SIGNAL_MSI = KVMIO 0xa5, WRITE, kvm::kvm_msi;
        KVM_IOEVENTFD = KVMIO 0x79, WRITE, kvm::kvm_ioeventfd;
        KVM_HYPERV_EVENTFD = KVMIO 0xbd, WRITE, kvm::kvm_hyperv_eventfd;
    }
    "vcpu" {
        KVM_RUN = KVMIO 0x80, NONE;
        KVM_GET_REGS = KVMIO 0x81, READ, kvm::kvm_regs;
        KVM_SET_REGS = KVMIO 0x82, WRITE, kvm::kvm_regs;
        KVM_GET_SREGS = KVMIO 0x83, READ, kvm::kvm_sregs;
        KVM_SET_SREGS = KVMIO 0x84, WRITE, kvm::kvm_sregs;
        KVM_TRANSLATE = KVMIO 0x85, READ | WRITE, kvm::kvm_translation;
        KVM_TRANSLATE2 = KVMIO 0x87, READ | WRITE, series::kvm_translation2;
        KVM_INTERRUPT = KVMIO 0x86, WRITE, kvm::kvm_interrupt;
        KVM_SET_MSRS = KVMIO 0x89, WRITE, kvm::kvm_msrs;
        KVM_SET_SIGNAL_MASK = KVMIO 0x8b, WRITE, kvm::kvm_signal_mask;
        KVM_GET_FPU = KVMIO 0x8c, READ, kvm::kvm_fpu;
        KVM_SET_FPU = KVMIO 0x8d, WRITE, kvm::kvm_fpu;
        KVM_GET_LAPIC = KVMIO 0x8e, READ, kvm::kvm_lapic_state;
        KVM_SET_LAPIC = KVMIO 0x8f, WRITE, kvm::kvm_lapic_state;
        KVM_SET_CPUID = KVMIO 0x8a, WRITE, kvm::kvm_cpuid;
        KVM_SET_CPUID2 = KVMIO 0x90, WRITE, kvm::kvm_cpuid2;
        KVM_GET_CPUID2 = KVMIO 0x91, READ | WRITE, kvm::kvm_cpuid2;
        KVM_GET_MP_STATE = KVMIO 0x98, READ, kvm::kvm_mp_state;
        KVM_SET_MP_STATE = KVMIO 0x99, WRITE, kvm::kvm_mp_state;
        KVM_NMI = KVMIO 0x9a, NONE;
        KVM_SET_GUEST_DEBUG = KVMIO 0x9b, WRITE, kvm::kvm_guest_debug;
        KVM_X86_SETUP_MCE = KVMIO 0x9c, WRITE, u64;
        KVM_X86_SET_MCE = KVMIO 0x9e, WRITE, kvm::kvm_x86_mce;
        KVM_GET_VCPU_EVENTS = KVMIO 0x9f, READ, kvm::kvm_vcpu_events;
        KVM_SET_VCPU_EVENTS = KVMIO 0xa0, WRITE, kvm::kvm_vcpu_events;
        KVM_GET_DEBUGREGS = KVMIO 0xa1, READ, kvm::kvm_debugregs;
        KVM_SET_DEBUGREGS = KVMIO 0xa2, WRITE, kvm::kvm_debugregs;
        KVM_GET_XSAVE = KVMIO 0xa4, READ, kvm::kvm_xsave;
        KVM_SET_XSAVE = KVMIO 0xa5, WRITE, kvm::kvm_xsave;
        KVM_GET_XCRS = KVMIO 0xa6, READ, kvm::kvm_xcrs;
        KVM_SET_XCRS = KVMIO 0xa7, WRITE, kvm::kvm_xcrs;
        KVM_TPR_ACCESS_REPORTING = KVMIO 0x92, READ | WRITE, kvm::kvm_tpr_access_ctl;
        KVM_SET_VAPIC_ADDR = KVMIO 0x93, WRITE, kvm::kvm_vapic_addr;
        KVM_SMI = KVMIO 0xb7, NONE;
        KVM_KVMCLOCK_CTRL = KVMIO 0xad, NONE;
        KVM_GET_SREGS2 = KVMIO 0xcc, READ, kvm::kvm_sregs2;
        KVM_SET_SREGS2 = KVMIO 0xcd, WRITE, kvm::kvm_sregs2;
        KVM_PRE_FAULT_MEMORY = KVMIO 0xd5, READ | WRITE, kvm::kvm_pre_fault_memory;
        KVM_GET_XSAVE2 = KVMIO 0xcf, READ, kvm::kvm_xsave;
        KVM_HYPERV_SET_TLB_FLUSH_INHIBIT = KVMIO 0xd6, WRITE, series::kvm_hyperv_tlb_flush_inhibit;
    }
    "vcpu, only in kvmshim: answered at once, the floor that KVM_RUN is measured against" {
        KVMSHIM_ECHO = KVMSHIMIO 0x00, NONE;
    }
}
