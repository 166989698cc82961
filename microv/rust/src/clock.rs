//! The clock of clock_get and clock_set: nanoseconds that go on from what was set.
//!
//! It is a linear function of the host's time-stamp counter, and the paravirtual clock of guests is
//! the same function: whoever reads either at the same count reads the same. It starts at 0 with its
//! owner, runs while that does not, and wraps at 2^64 ns.

use std::time::{SystemTime, UNIX_EPOCH};

use cpu_engine::{host_tsc, host_tsc_khz};
use cpu_paravirt::clock::Scale;

use crate::abi::clock::mv_clock_t;

/// A 64-bit nanosecond clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base_ns: u64,
    base_tsc: u64,
    scale: Scale,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { base_ns: 0, base_tsc: host_tsc(), scale: Scale::of_khz(host_tsc_khz()) }
    }
}

impl Clock {
    /// Nanoseconds now.
    pub fn get(&self) -> u64 {
        self.at(host_tsc())
    }

    /// Makes it `ns` now.
    pub fn set(&mut self, ns: u64) {
        (self.base_ns, self.base_tsc) = (ns, host_tsc());
    }

    /// Nanoseconds now, and what the host's clocks show.
    pub fn read(&self) -> mv_clock_t {
        let Moment { realtime_ns: realtime, tsc } = Moment::now();
        mv_clock_t { clock: self.at(tsc), realtime, tsc }
    }

    /// Makes it what it is now if it was `ns` at that CLOCK_REALTIME; 0, or one still to come, is now.
    pub fn set_at(&mut self, ns: u64, realtime: u64) {
        let Moment { realtime_ns, tsc } = Moment::now();
        let since = if realtime == 0 { 0 } else { realtime_ns.saturating_sub(realtime) };
        (self.base_ns, self.base_tsc) = (ns.wrapping_add(since), tsc);
    }

    /// Nanoseconds at a count of the host's time-stamp counter.
    pub fn at(&self, tsc: u64) -> u64 {
        // Counters of the host's processors may differ by little.
        self.base_ns.wrapping_add(self.scale.ns(tsc.saturating_sub(self.base_tsc)))
    }

    /// A count of the host's time-stamp counter, and the clock then.
    pub fn base(&self) -> (u64, u64) {
        (self.base_tsc, self.base_ns)
    }

    /// Moves the base to now if it is older than `ns`; the clock goes on as it was. Whether it has.
    pub fn move_base(&mut self, ns: u64) -> bool {
        let tsc = host_tsc();
        let now = self.at(tsc);
        let is_old = now.wrapping_sub(self.base_ns) > ns;
        if is_old {
            (self.base_ns, self.base_tsc) = (now, tsc);
        }
        is_old
    }
}

/// The host's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// CLOCK_REALTIME.
    pub realtime_ns: u64,
    /// Time-stamp counter at that time.
    pub tsc: u64,
}

impl Moment {
    /// Both, from between two readings of the counter.
    pub fn now() -> Moment {
        let before = host_tsc();
        let realtime_ns =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let took = host_tsc().saturating_sub(before);
        Moment { realtime_ns, tsc: before + took / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(base_ns: u64) -> Clock {
        Clock { base_ns, base_tsc: 1000, scale: Scale::of_khz(1_000_000) }
    }

    #[test]
    fn goes_on_from_what_was_set() {
        assert_eq!(clock(500).at(4000), 3500);
        assert_eq!(clock(500).at(10), 500);
    }

    #[test]
    fn wraps_at_the_end() {
        assert_eq!(clock(u64::MAX).at(1006), 5);
    }

    #[test]
    fn years_after_it_was_set_it_is_right() {
        const CENTURY_S: u64 = 100 * 365 * 86_400;
        let clock = Clock { base_ns: 5, base_tsc: 7, scale: Scale::of_khz(2_500_000) };
        let ns = clock.at(CENTURY_S * 2_500_000_000 + 7);
        assert!(ns.abs_diff(CENTURY_S * 1_000_000_000) < 2_000_000_000, "{ns}");
    }

    #[test]
    fn a_moved_base_changes_nothing() {
        let mut clock = Clock::default();
        let before = clock;
        assert!(!clock.move_base(u64::MAX));
        clock.base_tsc -= 1_000_000_000;
        let old = clock;
        assert!(clock.move_base(1000));
        assert!(clock.base() != before.base());
        let (tsc, ns) = clock.base();
        assert_eq!(old.at(tsc), ns);
        let later = tsc + 1_000_000;
        assert!(old.at(later).abs_diff(clock.at(later)) <= 1);
    }
}
