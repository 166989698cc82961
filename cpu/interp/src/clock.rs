//! The guest's time-stamp counter as a function of the host's: scaled, then moved.
//!
//! SDM volume 3, "TSC Scaling"; APM volume 2, "TSC Ratio MSR". At the host's own frequency nothing is
//! scaled, so that the guest's counter is the host's plus an offset, to the tick.

use cpu_host::{host_tsc, host_tsc_khz, host_tsc_ordered, is_near};

/// Fraction bits of the ratio.
const FRACTION: u32 = 48;
const ONE: u64 = 1 << FRACTION;
/// A frequency this near to the host's is taken for the host's: clients carry what they were told on
/// another host of the same kind, or by another calibration.
const TOLERANCE_PPM: u64 = 250;

/// A time-stamp counter that runs at a fixed frequency from a common start.
///
/// Clones share the start, so the vCPUs of one VM read synchronised counters.
#[derive(Clone, Copy, Debug)]
pub struct TscClock {
    /// The host's count when it read zero.
    start: u64,
    ratio: u64,
    /// What is added to the scaled count.
    offset: u64,
    khz: u32,
}

impl TscClock {
    /// A counter that reads zero now and gains `khz` thousand ticks per second.
    #[must_use]
    pub fn new(khz: u32) -> Self {
        Self::starting_at(host_tsc(), khz)
    }

    /// A counter with the same start and another frequency.
    #[must_use]
    pub fn with_khz(self, khz: u32) -> Self {
        Self::starting_at(self.start, khz)
    }

    fn starting_at(start: u64, khz: u32) -> Self {
        let ratio = ratio(khz, host_tsc_khz());
        TscClock { start, ratio, offset: scale(start, ratio).wrapping_neg(), khz }
    }

    /// Ticks per millisecond.
    #[must_use]
    pub const fn khz(&self) -> u32 {
        self.khz
    }

    /// Ticks per millisecond that it really gains: the host's frequency where that was near enough.
    #[must_use]
    pub fn real_khz(&self) -> u32 {
        if self.ratio == ONE { host_tsc_khz() } else { self.khz }
    }

    /// The present count.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.at(host_tsc_ordered())
    }

    /// What it is ahead of the host's count; None if it is scaled.
    #[must_use]
    #[inline]
    pub const fn ahead_of_host(&self) -> Option<u64> {
        if self.ratio == ONE { Some(self.offset) } else { None }
    }

    /// The count at a count of the host's.
    #[must_use]
    pub fn at(&self, host_tsc: u64) -> u64 {
        scale(host_tsc, self.ratio).wrapping_add(self.offset)
    }

    /// What is added to the host's count once it is scaled.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }
}

fn ratio(khz: u32, host_khz: u32) -> u64 {
    if is_near(host_khz, khz, TOLERANCE_PPM) {
        return ONE;
    }
    let ratio = (u128::from(khz) << FRACTION) / u128::from(host_khz);
    u64::try_from(ratio).unwrap_or(u64::MAX).max(1)
}

#[inline]
fn scale(ticks: u64, ratio: u64) -> u64 {
    ((u128::from(ticks) * u128::from(ratio)) >> FRACTION) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_frequency_scales_nothing() {
        for ticks in [0, 1, u64::MAX, 1 << 63] {
            assert_eq!(scale(ticks, ratio(2_596_120, 2_596_120)), ticks);
            assert_eq!(scale(ticks, ratio(2_596_500, 2_596_120)), ticks);
        }
    }

    #[test]
    fn a_counter_runs_right_after_a_century() {
        let century = 100 * 365 * 86_400 * 2_500_000_000;
        for (khz, second) in [(1_000_000, 1_000_000_000), (5_000_000, 5_000_000_000), (1, 1000)] {
            let ratio = ratio(khz, 2_500_000);
            let gained = scale(century + 2_500_000_000, ratio).wrapping_sub(scale(century, ratio));
            assert!(gained.abs_diff(second) <= 1, "{khz}: {gained}");
        }
    }

    #[test]
    fn a_new_counter_begins_at_zero_at_any_frequency() {
        for khz in [1, 1_000_000, u32::MAX] {
            let clock = TscClock::starting_at(u64::MAX / 2, khz);
            assert_eq!(scale(u64::MAX / 2, clock.ratio).wrapping_add(clock.offset), 0);
        }
    }
}
