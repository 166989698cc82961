//! The synthetic timer of unhalted time: TLFS, "Synthetic Time-Unhalted Timer Registers".
//!
//! It interrupts whenever the processor has executed for a period. While it sleeps in HLT, or is not in
//! run, no time passes. Periods that end before anybody looks are one.

use cpu_paravirt::hyperv::reference_time::TICK_NS;

use crate::object::local_apic::MsrRefused;

const ENABLED: u64 = 1 << 8;
const VECTOR: u64 = 0xFF;
const NMI: u64 = 2;
const FIRST_VECTOR: u64 = 16;

/// What the guest has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Vector 2.
    Nmi,
    /// A vector from 16 on.
    Fixed(u8),
}

/// The timer of one processor. Times are nanoseconds of the alarms' clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnhaltedTimer {
    config: u64,
    /// The period, 100 ns.
    count: u64,
    /// How much of the period had passed at `since_ns`.
    passed_ns: u64,
    /// None: the processor does not execute, or the timer is off.
    since_ns: Option<u64>,
}

impl UnhaltedTimer {
    /// Its configuration.
    pub fn config(&self) -> u64 {
        self.config
    }

    /// Its period, 100 ns.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether time passes while the processor executes.
    pub fn is_on(&self) -> bool {
        self.config & ENABLED != 0 && self.count != 0
    }

    /// Changes the configuration; a period begins. `now_ns`: the processor executes.
    ///
    /// # Errors
    /// [`MsrRefused`]: a reserved bit, or a vector that no interrupt has.
    pub fn set_config(&mut self, config: u64, now_ns: Option<u64>) -> Result<(), MsrRefused> {
        let vector = config & VECTOR;
        let has_interrupt = vector == NMI || vector >= FIRST_VECTOR;
        if config & !(ENABLED | VECTOR) != 0 || (config & ENABLED != 0 && !has_interrupt) {
            return Err(MsrRefused);
        }
        self.config = config;
        self.begin(now_ns);
        Ok(())
    }

    /// Changes the period; one begins. `now_ns`: the processor executes.
    pub fn set_count(&mut self, count: u64, now_ns: Option<u64>) {
        self.count = count;
        self.begin(now_ns);
    }

    fn begin(&mut self, now_ns: Option<u64>) {
        self.passed_ns = 0;
        self.since_ns = now_ns.filter(|_| self.is_on());
    }

    /// The processor executes.
    pub fn go_on(&mut self, now_ns: u64) {
        self.since_ns = self.is_on().then(|| self.since_ns.unwrap_or(now_ns));
    }

    /// It does no more.
    pub fn pause(&mut self, now_ns: u64) {
        if let Some(since) = self.since_ns.take() {
            self.passed_ns += now_ns.saturating_sub(since);
        }
    }

    /// When a period ends if the processor executes until then.
    pub fn alarm_ns(&self) -> Option<u64> {
        let rest = self.period_ns().saturating_sub(self.passed_ns);
        self.since_ns.map(|since| since.saturating_add(rest))
    }

    /// The interrupt, if a period has ended.
    pub fn look(&mut self, now_ns: u64) -> Option<Interrupt> {
        let since = self.since_ns.as_mut()?;
        self.passed_ns += now_ns.saturating_sub(std::mem::replace(since, now_ns));
        if self.passed_ns < self.period_ns() {
            return None;
        }
        self.passed_ns %= self.period_ns();
        Some(match self.config & VECTOR {
            NMI => Interrupt::Nmi,
            vector => Interrupt::Fixed(vector as u8),
        })
    }

    fn period_ns(&self) -> u64 {
        self.count.saturating_mul(TICK_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTOR_40: u64 = ENABLED | 0x40;
    const HIT: Option<Interrupt> = Some(Interrupt::Fixed(0x40));

    /// One that begins a period of 1 us at 0.
    fn timer() -> UnhaltedTimer {
        let mut timer = UnhaltedTimer::default();
        timer.set_config(VECTOR_40, Some(0)).unwrap();
        timer.set_count(10, Some(0));
        timer
    }

    #[test]
    fn hv_40_there_is_one_interrupt_a_period() {
        let mut timer = timer();
        assert_eq!(timer.alarm_ns(), Some(1000));
        assert_eq!([999, 1000, 1999, 2000].map(|now| timer.look(now)), [None, HIT, None, HIT]);
        assert_eq!(timer.alarm_ns(), Some(3000));
    }

    #[test]
    fn hv_40_periods_that_are_missed_are_one() {
        let mut timer = timer();
        assert_eq!([5300, 5300, 5999, 6000].map(|now| timer.look(now)), [HIT, None, None, HIT]);
    }

    #[test]
    fn hv_40_no_time_passes_while_it_does_not_execute() {
        let mut timer = timer();
        timer.pause(400);
        assert_eq!((timer.alarm_ns(), timer.look(1 << 40)), (None, None));
        timer.go_on(1 << 40);
        timer.go_on((1 << 40) + 100);
        assert_eq!(timer.alarm_ns(), Some((1 << 40) + 600));
        assert_eq!(timer.look((1 << 40) + 599), None);
        assert_eq!(timer.look((1 << 40) + 600), HIT);
    }

    #[test]
    fn hv_40_what_is_off_never_ends() {
        let mut timer = timer();
        timer.set_count(0, Some(0));
        timer.go_on(0);
        assert_eq!((timer.alarm_ns(), timer.look(u64::MAX)), (None, None));
        timer.set_count(u64::MAX, Some(7));
        assert_eq!(timer.alarm_ns(), Some(u64::MAX));
        timer.set_config(0x40, Some(7)).unwrap();
        assert_eq!((timer.alarm_ns(), timer.look(u64::MAX)), (None, None));
    }

    #[test]
    fn hv_40_vectors_are_2_or_from_16_on_and_other_bits_are_reserved() {
        let mut timer = UnhaltedTimer::default();
        for config in [2, 0x10, 0xFF].map(|vector| ENABLED | vector).into_iter().chain([0, 1]) {
            assert_eq!(timer.set_config(config, None), Ok(()));
            assert_eq!(timer.config(), config);
        }
        for config in [0, 1, 3, 15].map(|vector| ENABLED | vector).into_iter().chain([1 << 9, !0]) {
            assert_eq!(timer.set_config(config, None), Err(MsrRefused));
        }
        timer.set_config(ENABLED | 2, Some(0)).unwrap();
        timer.set_count(1, Some(0));
        assert_eq!(timer.look(100), Some(Interrupt::Nmi));
    }
}
