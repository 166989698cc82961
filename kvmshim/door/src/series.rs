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
