//! Structures of ioctls that patch series propose and that `linux/kvm.h` does not have.
#![allow(missing_docs, reason = "the names are the series'")]

/// "KVM: Introduce KVM_HYPERV_SET_TLB_FLUSH_INHIBIT", October 2024.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct kvm_hyperv_tlb_flush_inhibit {
    pub flags: u16,
    pub inhibit: u8,
    pub reserved: [u8; 5],
}

/// "KVM: x86: Introduce KVM_TRANSLATE2", September 2024.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct kvm_translation2 {
    /// In.
    pub linear_address: u64,
    pub flags: u16,
    pub access: u16,
    pub padding: [u8; 4],
    /// Out.
    pub physical_address: u64,
    pub valid: u8,
    pub error_code: u16,
    pub set_bits_succeeded: u8,
    pub padding2: [u8; 4],
}
