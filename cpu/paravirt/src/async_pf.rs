//! `struct kvm_vcpu_pv_apf_data`: how a guest is told of pages that the host fetches meanwhile.
//!
//! `Documentation/virt/kvm/x86/msr.rst`, MSR_KVM_ASYNC_PF_EN. 64 bytes, aligned to as many; the host
//! uses eight.

/// Which page has come, 32 bits: the token by which it was said to be missing. The guest makes it 0 when
/// it has seen it.
pub const TOKEN: usize = 4;
/// Bytes of the structure that the host uses.
pub const SIZE: usize = 8;

/// In [`TOKEN`]: whoever waits for a page is to look again.
pub const ALL: u32 = u32::MAX;

/// In the MSR.
const ENABLED: u64 = 1 << 0;
/// In the MSR: pages that have come are told by interrupt.
const BY_INTERRUPT: u64 = 1 << 3;
const ALIGNMENT: u64 = 64;

/// Whether anything is told. Without an interrupt nothing is.
#[must_use]
pub const fn is_enabled(msr: u64) -> bool {
    msr & (ENABLED | BY_INTERRUPT) == ENABLED | BY_INTERRUPT
}

/// The address in the MSR.
#[must_use]
pub const fn address(msr: u64) -> u64 {
    msr & !(ALIGNMENT - 1)
}

/// In MSR_KVM_ASYNC_PF_ACK: the guest has seen the page, and can be told of the next.
pub const ACKNOWLEDGE: u64 = 1 << 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_without_an_interrupt() {
        for (msr, told) in [(0, false), (1, false), (8, false), (9, true), (0x1000_000F, true)] {
            assert_eq!(is_enabled(msr), told, "{msr:#x}");
        }
    }

    #[test]
    fn flags_are_no_part_of_the_address() {
        assert_eq!(address(0x4_003F), 0x4_0000);
        assert_eq!(address(u64::MAX), u64::MAX - 63);
    }
}
