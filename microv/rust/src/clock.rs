//! The clock of clock_get and clock_set: nanoseconds that go on from what was set.
//!
//! The value is kept with the moment at which it was set, so reading it needs no scaling of the TSC.
//! It starts at 0 with the VS, runs while the VS does not, and wraps at 2^64 ns.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::abi::clock::mv_clock_t;

/// A 64-bit nanosecond clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base_ns: u64,
    set_at: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { base_ns: 0, set_at: Instant::now() }
    }
}

impl Clock {
    /// Nanoseconds now.
    pub fn get(&self) -> u64 {
        self.at(Instant::now())
    }

    /// Makes it `ns` now.
    pub fn set(&mut self, ns: u64) {
        *self = Clock { base_ns: ns, set_at: Instant::now() };
    }

    /// Nanoseconds now, and what the host's clocks show.
    pub fn read(&self) -> mv_clock_t {
        mv_clock_t { clock: self.get(), realtime: realtime_ns(), tsc: cpu_engine::host_tsc() }
    }

    /// Makes it what it is now if it was `ns` at that CLOCK_REALTIME; 0, or one still to come, is now.
    pub fn set_at(&mut self, ns: u64, realtime: u64) {
        let since = if realtime == 0 { 0 } else { realtime_ns().saturating_sub(realtime) };
        self.set(ns.wrapping_add(since));
    }

    fn at(&self, now: Instant) -> u64 {
        let elapsed_ns = now.saturating_duration_since(self.set_at).as_nanos();
        self.base_ns.wrapping_add(elapsed_ns as u64)
    }
}

fn realtime_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn goes_on_from_what_was_set() {
        let clock = Clock { base_ns: 500, set_at: Instant::now() };
        assert_eq!(clock.at(clock.set_at + Duration::from_micros(3)), 3500);
    }

    #[test]
    fn wraps_at_the_end() {
        let clock = Clock { base_ns: u64::MAX, set_at: Instant::now() };
        assert_eq!(clock.at(clock.set_at + Duration::from_nanos(6)), 5);
    }
}
