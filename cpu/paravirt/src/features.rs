//! CPUID of the interface: signature and feature bits.
//!
//! `Documentation/virt/kvm/x86/cpuid.rst`.

use cpu_defs::CpuidEntry;

/// MSR_KVM_WALL_CLOCK and MSR_KVM_SYSTEM_TIME.
pub const CLOCKSOURCE: u32 = 1 << 0;
/// Ports need no pauses between accesses.
pub const NOP_IO_DELAY: u32 = 1 << 1;
/// MSR_KVM_WALL_CLOCK_NEW and MSR_KVM_SYSTEM_TIME_NEW.
pub const CLOCKSOURCE2: u32 = 1 << 3;
/// MSR_KVM_ASYNC_PF_EN.
pub const ASYNC_PF: u32 = 1 << 4;
/// MSR_KVM_STEAL_TIME.
pub const STEAL_TIME: u32 = 1 << 5;
/// MSR_KVM_PV_EOI_EN.
pub const PV_EOI: u32 = 1 << 6;
/// KVM_HC_KICK_CPU.
pub const PV_UNHALT: u32 = 1 << 7;
/// A preempted processor flushes its TLB when it goes on, if asked to in its steal time.
pub const PV_TLB_FLUSH: u32 = 1 << 9;
/// Bit 2 of MSR_KVM_ASYNC_PF_EN.
pub const ASYNC_PF_VMEXIT: u32 = 1 << 10;
/// KVM_HC_SEND_IPI.
pub const PV_SEND_IPI: u32 = 1 << 11;
/// MSR_KVM_POLL_CONTROL.
pub const POLL_CONTROL: u32 = 1 << 12;
/// KVM_HC_SCHED_YIELD.
pub const PV_SCHED_YIELD: u32 = 1 << 13;
/// MSR_KVM_ASYNC_PF_INT and MSR_KVM_ASYNC_PF_ACK, and bit 3 of MSR_KVM_ASYNC_PF_EN.
pub const ASYNC_PF_INT: u32 = 1 << 14;
/// The clock's flag for synchronised counters means what it says.
pub const CLOCKSOURCE_STABLE_BIT: u32 = 1 << 24;

/// What a host made of this crate has.
pub const SUPPORTED: u32 = CLOCKSOURCE
    | NOP_IO_DELAY
    | CLOCKSOURCE2
    | ASYNC_PF
    | STEAL_TIME
    | PV_EOI
    | PV_UNHALT
    | PV_TLB_FLUSH
    | ASYNC_PF_VMEXIT
    | PV_SEND_IPI
    | POLL_CONTROL
    | PV_SCHED_YIELD
    | ASYNC_PF_INT
    | CLOCKSOURCE_STABLE_BIT;

const BASES: std::ops::Range<u32> = 0x4000_0000..0x4001_0000;
const BASE_STEP: usize = 0x100;
const SIGNATURE: [&[u8; 4]; 3] = [b"KVMK", b"VMKV", b"M\0\0\0"];

/// Leaves with the signature and [`SUPPORTED`].
#[must_use]
pub fn supported_cpuid() -> [CpuidEntry; 2] {
    let [ebx, ecx, edx] = SIGNATURE.map(|word| u32::from_le_bytes(*word));
    let (first, features) = (BASES.start, BASES.start + 1);
    [
        CpuidEntry { function: first, eax: features, ebx, ecx, edx, ..CpuidEntry::default() },
        CpuidEntry { function: features, eax: SUPPORTED, ..CpuidEntry::default() },
    ]
}

/// The feature bits that a guest with this table sees. The signature may be at any of its places,
/// which another hypervisor's may have before it.
#[must_use]
pub fn announced(table: &[CpuidEntry]) -> u32 {
    let leaf = |function| table.iter().find(|entry| entry.function == function);
    let [ebx, ecx, edx] = SIGNATURE.map(|word| u32::from_le_bytes(*word));
    let is_ours = |entry: &&CpuidEntry| (entry.ebx, entry.ecx, entry.edx) == (ebx, ecx, edx);
    let signature = BASES.step_by(BASE_STEP).filter_map(leaf).find(is_ours);
    signature.and_then(|entry| leaf(entry.function + 1)).map_or(0, |entry| entry.eax)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_supported_is_announced() {
        assert_eq!(announced(&supported_cpuid()), SUPPORTED);
        assert_eq!(announced(&[]), 0);
    }

    #[test]
    fn the_signature_may_be_behind_that_of_another_hypervisor() {
        let mut table = supported_cpuid().to_vec();
        for entry in &mut table {
            entry.function += 0x100;
        }
        table.push(CpuidEntry { function: 0x4000_0000, ebx: 1, ..CpuidEntry::default() });
        table.push(CpuidEntry { function: 0x4000_0001, eax: !0, ..CpuidEntry::default() });
        assert_eq!(announced(&table), SUPPORTED);
    }

    #[test]
    fn without_the_signature_there_is_no_feature() {
        let [_, features] = supported_cpuid();
        assert_eq!(announced(&[features]), 0);
    }
}
