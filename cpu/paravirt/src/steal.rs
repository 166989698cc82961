//! `struct kvm_steal_time`: time in which the processor was ready and the host ran something else.
//!
//! `Documentation/virt/kvm/x86/msr.rst`, MSR_KVM_STEAL_TIME. 64 bytes, aligned to as many.

/// Nanoseconds, 64 bits.
pub const STEAL: usize = 0;
/// 32 bits, odd while the structure is written.
pub const VERSION: usize = 8;
/// A byte: whether the processor does not run, and what it is to do before it goes on.
pub const PREEMPTED: usize = 16;
/// Bytes of the structure.
pub const SIZE: usize = 64;

/// In [`PREEMPTED`]: it does not run.
pub const VCPU_PREEMPTED: u8 = 1 << 0;
/// In [`PREEMPTED`], set by another processor of the guest: it is to flush its TLB.
pub const VCPU_FLUSH_TLB: u8 = 1 << 1;

/// The address in the MSR.
#[must_use]
pub const fn address(msr: u64) -> u64 {
    msr & !(SIZE as u64 - 1)
}
