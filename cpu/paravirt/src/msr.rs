//! The MSRs: numbers, the feature that announces each, and the values it can have.
//!
//! `Documentation/virt/kvm/x86/msr.rst`; where KVM checks more or less than that says, as KVM.
//! MSR_KVM_MIGRATION_CONTROL is the client's, as in KVM.

use std::ops::RangeInclusive;

use crate::features;

/// Guest-physical address of [`crate::clock::WallClock`], written once; of the whole VM.
pub const WALL_CLOCK: u32 = 0x11;
/// Guest-physical address of [`crate::clock::TimeInfo`] and [`ENABLED`].
pub const SYSTEM_TIME: u32 = 0x12;
/// As [`WALL_CLOCK`].
pub const WALL_CLOCK_NEW: u32 = 0x4B56_4D00;
/// As [`SYSTEM_TIME`].
pub const SYSTEM_TIME_NEW: u32 = 0x4B56_4D01;
/// Asynchronous page faults.
pub const ASYNC_PF_EN: u32 = 0x4B56_4D02;
/// Guest-physical address of the structure of [`crate::steal`] and [`ENABLED`].
pub const STEAL_TIME: u32 = 0x4B56_4D03;
/// Guest-physical address of a word whose lowest bit spares an end of interrupt, and [`ENABLED`].
pub const PV_EOI_EN: u32 = 0x4B56_4D04;
/// Whether the host polls before it lets a halted processor sleep.
pub const POLL_CONTROL: u32 = 0x4B56_4D05;
/// Vector for pages that have come.
pub const ASYNC_PF_INT: u32 = 0x4B56_4D06;
/// A page that has come was seen.
pub const ASYNC_PF_ACK: u32 = 0x4B56_4D07;

/// The structure at the address is in use.
pub const ENABLED: u64 = 1;

/// All of them.
pub const RANGES: [RangeInclusive<u32>; 2] =
    [WALL_CLOCK..=SYSTEM_TIME, WALL_CLOCK_NEW..=ASYNC_PF_ACK];

const ASYNC_PF_RESERVED: u64 = 0x30;
const ASYNC_PF_VMEXIT: u64 = 1 << 2;
const ASYNC_PF_BY_INTERRUPT: u64 = 1 << 3;
const STEAL_TIME_RESERVED: u64 = 0x3E;

/// Whether an MSR is one of these.
#[must_use]
pub fn is_paravirtual(index: u32) -> bool {
    RANGES.iter().any(|range| range.contains(&index))
}

/// All of them, by number.
pub fn all() -> impl Iterator<Item = u32> {
    RANGES.into_iter().flatten()
}

/// The feature that announces an MSR.
#[must_use]
pub const fn feature(index: u32) -> u32 {
    match index {
        WALL_CLOCK | SYSTEM_TIME => features::CLOCKSOURCE,
        WALL_CLOCK_NEW | SYSTEM_TIME_NEW => features::CLOCKSOURCE2,
        ASYNC_PF_EN => features::ASYNC_PF,
        STEAL_TIME => features::STEAL_TIME,
        PV_EOI_EN => features::PV_EOI,
        POLL_CONTROL => features::POLL_CONTROL,
        _ => features::ASYNC_PF_INT,
    }
}

/// Whether an MSR can have a value. `allowed`: the features that the guest may use. `local_apic`:
/// there is one beside the processor.
#[must_use]
pub const fn is_legal(index: u32, value: u64, allowed: u32, local_apic: bool) -> bool {
    match index {
        ASYNC_PF_EN => {
            let by_vmexit = allowed & features::ASYNC_PF_VMEXIT != 0;
            let by_interrupt = allowed & features::ASYNC_PF_INT != 0;
            value & ASYNC_PF_RESERVED == 0
                && (by_vmexit || value & ASYNC_PF_VMEXIT == 0)
                && (by_interrupt || value & ASYNC_PF_BY_INTERRUPT == 0)
                && (local_apic || value == 0)
        }
        ASYNC_PF_INT => value >> 8 == 0 && (local_apic || value == 0),
        STEAL_TIME => value & STEAL_TIME_RESERVED == 0,
        PV_EOI_EN => value & 2 == 0,
        POLL_CONTROL => value <= 1,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_ten() {
        assert_eq!(all().count(), 10);
        assert!(all().all(is_paravirtual));
        assert!(![0x10, 0x13, 0x4B56_4CFF, 0x4B56_4D08].into_iter().any(is_paravirtual));
    }

    #[test]
    fn reserved_bits_are_refused() {
        for (index, value) in [
            (STEAL_TIME, 0x1003),
            (PV_EOI_EN, 0x1002),
            (POLL_CONTROL, 2),
            (ASYNC_PF_INT, 0x100),
            (ASYNC_PF_EN, 0x1010),
        ] {
            assert!(!is_legal(index, value, !0, true), "{index:#x}");
            assert!(is_legal(index, 0, 0, false), "{index:#x}");
        }
    }

    #[test]
    fn page_faults_need_a_local_apic_and_their_features() {
        assert!(is_legal(ASYNC_PF_EN, 0x4000D, !0, true));
        assert!(!is_legal(ASYNC_PF_EN, 0x40001, !0, false));
        assert!(!is_legal(ASYNC_PF_EN, 0x40005, features::ASYNC_PF_INT, true));
        assert!(!is_legal(ASYNC_PF_EN, 0x40009, features::ASYNC_PF_VMEXIT, true));
        assert!(!is_legal(ASYNC_PF_INT, 0x30, !0, false));
    }

    #[test]
    fn clocks_take_any_address() {
        for index in [WALL_CLOCK, SYSTEM_TIME, WALL_CLOCK_NEW, SYSTEM_TIME_NEW] {
            assert!(is_legal(index, u64::MAX, 0, false));
        }
    }
}
