//! The time-stamp counter as a function of host time.

use std::time::Instant;

/// A time-stamp counter that runs at a fixed frequency from a common start.
///
/// Clones share the start, so the vCPUs of one VM read synchronised counters.
#[derive(Clone, Copy, Debug)]
pub struct TscClock {
    start: Instant,
    khz: u32,
}

impl TscClock {
    /// A counter that reads zero now and gains `khz` thousand ticks per second.
    #[must_use]
    pub fn new(khz: u32) -> Self {
        TscClock { start: Instant::now(), khz }
    }

    /// A counter with the same start and another frequency.
    #[must_use]
    pub const fn with_khz(self, khz: u32) -> Self {
        TscClock { khz, ..self }
    }

    /// Ticks per millisecond.
    #[must_use]
    pub const fn khz(&self) -> u32 {
        self.khz
    }

    /// The present count.
    #[must_use]
    pub fn now(&self) -> u64 {
        let elapsed_ns = self.start.elapsed().as_nanos();
        let ticks = elapsed_ns * u128::from(self.khz) / 1_000_000;
        ticks as u64
    }
}
