//! One synthetic timer: when it expires, and what is due then. TLFS, "Timers".
//!
//! A count is a reference time, or a period of it. A change takes effect when the processor looks at
//! its controllers: [`Timer::look`]. What is sent is the caller's; where it cannot be sent the timer
//! waits until its source has ended.

use cpu_paravirt::hyperv::reference_time::TICK_NS;
use cpu_paravirt::hyperv::synic::TimerConfig;

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Reference time.
    pub reference: u64,
    /// On the alarms' clock.
    pub alarm_ns: u64,
}

/// The state of a timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timer {
    config: TimerConfig,
    count: u64,
    /// When it expires, in reference time; 0: that has not been computed.
    expiration: u64,
    /// It has expired, and its message could not be sent.
    is_owed: bool,
    /// It is to be looked at.
    is_due: bool,
    /// When it is to be looked at, on the alarms' clock.
    alarm_ns: Option<u64>,
}

impl Timer {
    /// Its configuration.
    pub fn config(&self) -> TimerConfig {
        self.config
    }

    /// Its count.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether it is to be looked at now.
    pub fn is_due(&self) -> bool {
        self.is_due
    }

    /// When it is to be looked at, on the alarms' clock.
    pub fn alarm_ns(&self) -> Option<u64> {
        self.alarm_ns
    }

    /// Changes the configuration. A running timer whose messages have no source stops.
    pub fn set_config(&mut self, config: TimerConfig) {
        let had_run = self.config.is_enabled();
        self.stop();
        let has_no_source = !config.is_direct() && config.sint() == 0;
        self.config = if had_run && has_no_source { config.with_enabled(false) } else { config };
        self.is_due = self.config.is_enabled();
    }

    /// Changes the count; `by_guest`: which starts and stops it.
    pub fn set_count(&mut self, count: u64, by_guest: bool) {
        self.stop();
        self.count = count;
        if by_guest && count == 0 {
            self.config = self.config.with_enabled(false);
        } else if by_guest && self.config.is_auto_enabled() {
            self.config = self.config.with_enabled(true);
        }
        self.is_due = self.config.is_enabled();
    }

    /// Sources that have ended, by bit: a message for one of them may be sent now.
    pub fn note_ended(&mut self, sints: u32) {
        let is_mine = !self.config.is_direct() && sints >> self.config.sint() & 1 != 0;
        self.is_due |= self.is_owed && self.config.is_enabled() && is_mine;
    }

    /// Does what is due at this time; `send(config, expiration)` sends, or says that it cannot.
    pub fn look(&mut self, now: Now, mut send: impl FnMut(TimerConfig, u64) -> bool) {
        self.is_due |= self.alarm_ns.is_some_and(|at| at <= now.alarm_ns);
        while std::mem::take(&mut self.is_due) {
            self.alarm_ns = None;
            if !self.config.is_enabled() {
                return;
            }
            if self.expiration != 0 && now.reference >= self.expiration {
                self.is_owed = !send(self.config, self.expiration);
                if !self.is_owed && !self.config.is_periodic() {
                    self.config = self.config.with_enabled(false);
                }
            }
            if !self.config.is_enabled() || self.count == 0 {
                self.stop();
            } else if !self.is_owed {
                self.start(now);
            }
        }
    }

    fn start(&mut self, now: Now) {
        self.expiration = match (self.config.is_periodic(), self.expiration) {
            (false, _) => self.count,
            (true, 0) => now.reference.saturating_add(self.count),
            (true, last) if now.reference >= last => {
                let missed = (now.reference - last) % self.count;
                now.reference.saturating_add(self.count - missed)
            }
            (true, next) => next,
        };
        match self.expiration.checked_sub(now.reference) {
            Some(rest) if rest > 0 => {
                let rest_ns = rest.saturating_mul(TICK_NS);
                self.alarm_ns = Some(now.alarm_ns.saturating_add(rest_ns));
            }
            _ => self.is_due = true,
        }
    }

    fn stop(&mut self) {
        self.is_due = false;
        self.is_owed = false;
        self.expiration = 0;
        self.alarm_ns = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENABLED: u64 = 1;
    const PERIODIC: u64 = 2;
    const AUTO: u64 = 8;
    const SINT_2: u64 = 2 << 16;

    fn at(reference: u64) -> Now {
        Now { reference, alarm_ns: reference * TICK_NS }
    }

    /// The expirations that are sent at this time; `works`: they can be.
    fn sent(timer: &mut Timer, now: u64, works: bool) -> Vec<u64> {
        let mut sent = Vec::new();
        timer.look(at(now), |_, expiration| {
            sent.push(expiration);
            works
        });
        sent
    }

    fn timer(config: u64, count: u64) -> Timer {
        let mut timer = Timer::default();
        timer.set_config(TimerConfig(config));
        timer.set_count(count, true);
        timer
    }

    #[test]
    fn hv_09_a_shot_expires_once_at_its_time() {
        let mut timer = timer(ENABLED | SINT_2, 1000);
        assert_eq!(sent(&mut timer, 400, true), []);
        assert_eq!(timer.alarm_ns(), Some(100_000));
        assert_eq!(sent(&mut timer, 1001, true), [1000]);
        assert!(!timer.config().is_enabled());
        assert_eq!(sent(&mut timer, 5000, true), []);
        assert_eq!(timer.alarm_ns(), None);
    }

    #[test]
    fn hv_09_a_shot_in_the_past_expires_at_once() {
        assert_eq!(sent(&mut timer(ENABLED | SINT_2, 1000), 2000, true), [1000]);
    }

    #[test]
    fn hv_09_periods_that_are_missed_are_skipped() {
        let mut timer = timer(ENABLED | PERIODIC | SINT_2, 100);
        assert_eq!(sent(&mut timer, 1000, true), []);
        assert_eq!(sent(&mut timer, 1100, true), [1100]);
        assert_eq!(timer.alarm_ns(), Some(120_000));
        assert_eq!(sent(&mut timer, 1450, true), [1200]);
        assert_eq!(timer.alarm_ns(), Some(150_000));
        assert!(timer.config().is_enabled());
    }

    #[test]
    fn hv_09_what_could_not_be_sent_is_sent_when_its_source_has_ended() {
        let mut timer = timer(ENABLED | SINT_2, 1000);
        assert_eq!(sent(&mut timer, 2000, false), [1000]);
        assert_eq!(sent(&mut timer, 3000, true), []);
        timer.note_ended(1 << 3);
        assert_eq!(sent(&mut timer, 3000, true), []);
        timer.note_ended(1 << 2);
        assert_eq!(sent(&mut timer, 3000, true), [1000]);
    }

    #[test]
    fn hv_09_a_count_starts_what_starts_by_itself_and_0_stops() {
        let mut timer = timer(AUTO | SINT_2, 1000);
        assert!(timer.config().is_enabled());
        timer.set_count(0, true);
        assert!(!timer.config().is_enabled());
        timer.set_count(1000, false);
        assert!(!timer.config().is_enabled());
    }

    #[test]
    fn hv_09_a_running_timer_loses_its_source_and_stops() {
        let mut timer = timer(ENABLED | SINT_2, 1000);
        timer.set_config(TimerConfig(ENABLED));
        assert!(!timer.config().is_enabled());
    }

    #[test]
    fn hv_09_the_end_of_time_is_never_reached() {
        let mut timer = timer(ENABLED | PERIODIC | SINT_2, u64::MAX);
        assert_eq!(sent(&mut timer, 1000, true), []);
        assert_eq!(timer.alarm_ns(), Some(u64::MAX));
    }
}
