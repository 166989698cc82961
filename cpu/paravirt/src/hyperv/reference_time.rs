//! Reference time, 100 ns each, as a linear function of the time-stamp counter, and the page that
//! tells it to the guest.
//!
//! TLFS, "Partition Reference Time Enlightenment": a sequence (32 bits; 0: read the MSR instead), scale
//! and offset at 8 and 16; the time is `(counter * scale >> 64) + offset`.

use crate::clock::Scale;

/// Bytes of the page that mean something.
pub const SIZE: usize = 24;
/// Where the scale begins; the sequence is before it, with four bytes of nothing.
pub const BODY: usize = 8;
/// Nanoseconds of one count.
pub const TICK_NS: u64 = 100;

/// The function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReferenceTime {
    /// Counts of a tick of the counter, 64 fraction bits.
    pub scale: u64,
    /// The time when the counter is 0, mod 2^64.
    pub offset: u64,
}

impl ReferenceTime {
    /// For a clock that shows `base_ns` when the counter is `base_tsc`. None where a tick lasts too
    /// long to be told.
    #[must_use]
    pub fn new(base_tsc: u64, base_ns: u64, scale: Scale) -> Option<ReferenceTime> {
        let places = u32::try_from(32 + i32::from(scale.shift)).ok()?;
        let counts = (u128::from(scale.mul) << places) / u128::from(TICK_NS);
        let without = ReferenceTime { scale: u64::try_from(counts).ok()?, offset: 0 };
        let offset = (base_ns / TICK_NS).wrapping_sub(without.at(base_tsc));
        Some(ReferenceTime { offset, ..without })
    }

    /// The time at a count of the counter.
    #[must_use]
    pub const fn at(&self, tsc: u64) -> u64 {
        let counts = (tsc as u128 * self.scale as u128) >> 64;
        (counts as u64).wrapping_add(self.offset)
    }

    /// What the page has from [`BODY`] on.
    #[must_use]
    pub fn body(&self) -> [u8; SIZE - BODY] {
        let mut bytes = [0; SIZE - BODY];
        bytes[..8].copy_from_slice(&self.scale.to_le_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }
}

/// The sequence of a changed page: never 0 nor all ones, which say that there is no page.
#[must_use]
pub const fn next_sequence(sequence: u32) -> u32 {
    match sequence.wrapping_add(1) {
        0 | u32::MAX => 1,
        next => next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hv_06_the_clock_shows_its_base_at_its_base() {
        let time = ReferenceTime::new(1 << 50, 12_345_678_900, Scale::of_khz(2_596_120)).unwrap();
        assert_eq!(time.at(1 << 50), 123_456_789);
    }

    #[test]
    fn hv_06_a_second_has_ten_million_counts() {
        let time = ReferenceTime::new(0, 0, Scale::of_khz(2_000_000)).unwrap();
        assert!(time.at(2_000_000_000).abs_diff(10_000_000) <= 1);
        assert_eq!(time.offset, 0);
    }

    #[test]
    fn hv_06_a_tick_that_lasts_100_ns_cannot_be_told() {
        assert_eq!(ReferenceTime::new(0, 0, Scale::of_khz(10_000)), None);
        assert!(ReferenceTime::new(0, 0, Scale::of_khz(10_100)).is_some());
    }

    #[test]
    fn hv_06_a_sequence_is_never_one_that_means_no_page() {
        assert_eq!(next_sequence(0), 1);
        assert_eq!(next_sequence(u32::MAX - 1), 1);
        assert_eq!(next_sequence(u32::MAX), 1);
    }

    proptest! {
        #[test]
        fn hv_06_the_time_is_the_clocks(khz in 20_000_u32..10_000_000, base in any::<u32>(), ticks in 0_u64..1 << 45) {
            let scale = Scale::of_khz(khz);
            let time = ReferenceTime::new(base.into(), 0, scale).unwrap();
            let clock = scale.ns(ticks) / TICK_NS;
            prop_assert!(time.at(u64::from(base) + ticks).abs_diff(clock) <= 2);
        }
    }
}
