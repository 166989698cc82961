//! The paravirtual clock: nanoseconds as a linear function of the time-stamp counter.
//!
//! `Documentation/virt/kvm/x86/msr.rst`, MSR_KVM_SYSTEM_TIME_NEW and MSR_KVM_WALL_CLOCK_NEW;
//! `hypercalls.rst`, KVM_HC_CLOCK_PAIRING. All values are little endian.

/// In `flags` of [`TimeInfo`]: the clocks of all processors are one.
pub const TSC_STABLE_BIT: u8 = 1 << 0;
/// In `flags` of [`TimeInfo`]: the host had stopped the guest; the guest clears it.
pub const GUEST_STOPPED: u8 = 1 << 1;

const NS_PER_S: u64 = 1_000_000_000;

/// From ticks to nanoseconds: `(ticks << shift) * mul >> 32`, a negative shift to the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Nanoseconds of a shifted tick, 32 fraction bits. The topmost bit is set.
    pub mul: u32,
    /// Binary places to the left.
    pub shift: i8,
}

impl Scale {
    /// For a counter of this many thousand ticks a second; 0 counts as 1.
    #[must_use]
    pub const fn of_khz(khz: u32) -> Self {
        let hz = khz as u64 * 1000;
        let hz = if hz == 0 { 1000 } else { hz };
        // A tick lasts 2^shift shifted ticks, of which each is less than a nanosecond and not less
        // than half of one.
        let mut shift = 0_i8;
        while shifted(hz, shift) <= NS_PER_S as u128 * SHIFTED_ONE {
            shift += 1;
        }
        while shifted(hz, shift) > 2 * NS_PER_S as u128 * SHIFTED_ONE {
            shift -= 1;
        }
        let mul = ((NS_PER_S as u128) << 32) * SHIFTED_ONE / shifted(hz, shift);
        Scale { mul: mul as u32, shift }
    }

    /// Nanoseconds of so many ticks, rounded down as guests do it; mod 2^64.
    #[must_use]
    pub const fn ns(&self, ticks: u64) -> u64 {
        let shifted = match self.shift {
            0.. => ticks.wrapping_shl(self.shift as u32),
            _ => ticks.wrapping_shr(self.shift.unsigned_abs() as u32),
        };
        ((shifted as u128 * self.mul as u128) >> 32) as u64
    }
}

/// 1 with as many fraction bits as any shift to the right takes away.
const SHIFTED_ONE: u128 = 1 << 16;

const fn shifted(hz: u64, shift: i8) -> u128 {
    let hz = hz as u128 * SHIFTED_ONE;
    if shift >= 0 { hz << shift } else { hz >> shift.unsigned_abs() }
}

/// `struct pvclock_vcpu_time_info` behind its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeInfo {
    /// Count of the guest's time-stamp counter at which the clock showed `system_time`.
    pub tsc_timestamp: u64,
    /// Nanoseconds.
    pub system_time: u64,
    /// Of the guest's time-stamp counter.
    pub scale: Scale,
    /// [`TSC_STABLE_BIT`] and [`GUEST_STOPPED`].
    pub flags: u8,
}

impl TimeInfo {
    /// Bytes of the structure, version included.
    pub const SIZE: usize = 32;
    /// Where `flags` is.
    pub const FLAGS: usize = 29;
    /// Where the bytes behind the version and its padding begin.
    pub const BODY: usize = 8;

    /// The bytes from [`Self::BODY`] on.
    #[must_use]
    pub fn body(&self) -> [u8; Self::SIZE - Self::BODY] {
        let mut bytes = [0; Self::SIZE - Self::BODY];
        bytes[..8].copy_from_slice(&self.tsc_timestamp.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.system_time.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.scale.mul.to_le_bytes());
        bytes[20] = self.scale.shift as u8;
        bytes[21] = self.flags;
        bytes
    }
}

/// `struct pvclock_wall_clock` behind its version: when the clock was 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// Since 1970, mod 2^32.
    pub sec: u32,
    /// 0 to 999,999,999.
    pub nsec: u32,
}

impl WallClock {
    /// Bytes of the structure, version included.
    pub const SIZE: usize = 12;
    /// Where the bytes behind the version begin.
    pub const BODY: usize = 4;

    /// At `realtime_ns` since 1970 the clock is `clock_ns`.
    #[must_use]
    pub fn new(realtime_ns: u64, clock_ns: u64) -> Self {
        let start = realtime_ns.wrapping_sub(clock_ns);
        WallClock { sec: (start / NS_PER_S) as u32, nsec: (start % NS_PER_S) as u32 }
    }

    /// The bytes from [`Self::BODY`] on.
    #[must_use]
    pub fn body(&self) -> [u8; Self::SIZE - Self::BODY] {
        (u64::from(self.nsec) << 32 | u64::from(self.sec)).to_le_bytes()
    }
}

/// `struct kvm_clock_pairing`: the host's clock and the guest's counter at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockPairing {
    /// Since 1970.
    pub realtime_ns: u64,
    /// Of the guest.
    pub tsc: u64,
}

impl ClockPairing {
    /// Bytes of the structure.
    pub const SIZE: usize = 64;

    /// The structure; its flags are 0.
    #[must_use]
    pub fn bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&(self.realtime_ns / NS_PER_S).to_le_bytes());
        bytes[8..16].copy_from_slice(&(self.realtime_ns % NS_PER_S).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.tsc.to_le_bytes());
        bytes
    }
}

/// The version of a structure that is being written, from its present one: odd.
#[must_use]
pub const fn version_while_written(version: u32) -> u32 {
    version.wrapping_add(1) | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_nanosecond_counter_is_not_scaled() {
        let scale = Scale::of_khz(1_000_000);
        assert_eq!(scale, Scale { mul: 1 << 31, shift: 1 });
        assert_eq!(scale.ns(12345), 12345);
    }

    #[test]
    fn usual_frequencies_have_the_scales_that_guests_know() {
        assert_eq!(Scale::of_khz(2_000_000), Scale { mul: 1 << 31, shift: 0 });
        assert_eq!(Scale::of_khz(4_000_000), Scale { mul: 1 << 31, shift: -1 });
        assert_eq!(Scale::of_khz(2_500_000), Scale { mul: 0xCCCC_CCCC, shift: -1 });
    }

    #[test]
    fn decades_of_ticks_do_not_overflow() {
        const CENTURY_S: u64 = 100 * 365 * 86_400;
        for khz in [1, 1000, 2_596_120, 5_000_000] {
            let ns = Scale::of_khz(khz).ns(CENTURY_S * u64::from(khz) * 1000);
            let exact = CENTURY_S * NS_PER_S;
            assert!(ns <= exact && exact - ns <= exact >> 31, "{khz} kHz: {ns}");
        }
    }

    #[test]
    fn a_structure_has_the_layout_of_the_kernels_header() {
        let info = TimeInfo {
            tsc_timestamp: 0x1122_3344_5566_7788,
            system_time: 0x99AA_BBCC_DDEE_FF00,
            scale: Scale { mul: 0x8000_0001, shift: -1 },
            flags: TSC_STABLE_BIT,
        };
        let body = info.body();
        assert_eq!(body[..2], [0x88, 0x77]);
        assert_eq!(body[8..10], [0, 0xFF]);
        assert_eq!(body[16..], [1, 0, 0, 0x80, 0xFF, 1, 0, 0]);
        assert_eq!(body[TimeInfo::FLAGS - TimeInfo::BODY], TSC_STABLE_BIT);
    }

    #[test]
    fn the_wall_clock_is_when_the_clock_was_0() {
        let wall = WallClock::new(1_700_000_000_500_000_000, 600_000_000);
        assert_eq!(wall, WallClock { sec: 1_699_999_999, nsec: 900_000_000 });
        assert_eq!(wall.body()[..4], 1_699_999_999_u32.to_le_bytes());
        assert_eq!(WallClock::new(5, 6).nsec % 1_000_000_000, WallClock::new(5, 6).nsec);
    }

    #[test]
    fn a_version_is_odd_while_it_is_written_and_grows() {
        for (before, during) in [(0, 1), (2, 3), (3, 5), (u32::MAX - 1, u32::MAX), (u32::MAX, 1)] {
            assert_eq!(version_while_written(before), during);
        }
    }

    proptest! {
        /// Against exact arithmetic: never ahead, and behind by the rounding of `mul` and the shift.
        #[test]
        fn ns_are_exact_to_the_rounding(khz in 1_u32.., ticks in any::<u64>()) {
            let scale = Scale::of_khz(khz);
            prop_assert!(scale.mul >= 1 << 31);
            let exact = u128::from(ticks) * 1_000_000 / u128::from(khz);
            prop_assume!(exact < 1 << 63);
            let ns = u128::from(scale.ns(ticks));
            prop_assert!(ns <= exact);
            prop_assert!(exact - ns <= (exact >> 31) + 2, "{} for {}", ns, exact);
        }

        #[test]
        fn the_clock_never_goes_back(khz in 1_u32.., ticks in any::<u64>(), more in 0_u64..1 << 40) {
            let scale = Scale::of_khz(khz);
            let later = ticks.saturating_add(more);
            prop_assume!(u128::from(later) * 1_000_000 / u128::from(khz) < 1 << 63);
            prop_assert!(scale.ns(ticks) <= scale.ns(later));
        }
    }
}
