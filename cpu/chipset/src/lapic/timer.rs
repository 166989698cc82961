//! The timer of a local APIC (SDM volume 3, "APIC Timer").
//!
//! Its clock runs at 1 GHz, as KVM's does. A count is computed from the time since it was set.

/// Timer mode of the local vector table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerMode {
    /// Once.
    OneShot,
    /// Again and again.
    Periodic,
    /// At a value of the TSC.
    TscDeadline,
}

impl TimerMode {
    /// From bits 18:17 of the entry; the reserved value does as one-shot.
    #[must_use]
    pub const fn of(lvt: u32) -> Self {
        match lvt >> 17 & 3 {
            1 => Self::Periodic,
            2 => Self::TscDeadline,
            _ => Self::OneShot,
        }
    }
}

/// Shortest period in nanoseconds: a guest cannot ask for an interrupt storm.
const MIN_PERIOD_NS: u64 = 200_000;

/// A running count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Length of the count in nanoseconds; 0 if it is stopped.
    length_ns: u64,
    /// When it ends next.
    end_ns: u64,
    periodic: bool,
}

impl Count {
    /// Starts to count `initial` ticks of `divisor` nanoseconds each; zero stops.
    #[must_use]
    pub fn start(initial: u32, divisor: u32, periodic: bool, now_ns: u64) -> Self {
        let length_ns = u64::from(initial) * u64::from(divisor);
        let mut count = Count { length_ns, end_ns: 0, periodic };
        count.end_ns = now_ns.saturating_add(count.period_ns());
        count
    }

    /// Whether it goes on when it ends.
    pub fn set_periodic(&mut self, periodic: bool) {
        self.periodic = periodic;
    }

    /// From one end to the next.
    fn period_ns(&self) -> u64 {
        match self.periodic && self.length_ns != 0 {
            true => self.length_ns.max(MIN_PERIOD_NS),
            false => self.length_ns,
        }
    }

    /// Goes on with `left` ticks of a count that began with `initial`; a count that was not begun
    /// stays stopped.
    #[must_use]
    pub fn resume(initial: u32, left: u32, divisor: u32, periodic: bool, now_ns: u64) -> Self {
        let whole = Self::start(initial, divisor, periodic, now_ns);
        if left == 0 && !periodic {
            return Count::default();
        }
        let left_ns = u64::from(left) * u64::from(divisor);
        Count { end_ns: now_ns.saturating_add(left_ns), ..whole }
    }

    /// When it ends next.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        (self.length_ns != 0).then_some(self.end_ns)
    }

    /// Ticks left.
    #[must_use]
    pub fn left(&self, divisor: u32, now_ns: u64) -> u32 {
        if self.length_ns == 0 {
            return 0;
        }
        let left_ns = match (now_ns < self.end_ns, self.periodic) {
            (true, _) => self.end_ns - now_ns,
            (false, true) => self.period_ns() - (now_ns - self.end_ns) % self.period_ns(),
            (false, false) => 0,
        };
        u32::try_from(left_ns / u64::from(divisor)).unwrap_or(u32::MAX)
    }

    /// The same ticks left, with another divisor. What is left of a tick is lost.
    #[must_use]
    pub fn with_divisor(&self, old: u32, new: u32, initial: u32, now_ns: u64) -> Self {
        if self.length_ns == 0 {
            return *self;
        }
        let left_ns = u64::from(self.left(old, now_ns)) * u64::from(new);
        let whole = Self::start(initial, new, self.periodic, now_ns);
        Count { end_ns: now_ns.saturating_add(left_ns), ..whole }
    }

    /// Whether it has ended by now; a periodic count goes on, any other stops.
    pub fn expire(&mut self, now_ns: u64) -> bool {
        if self.length_ns == 0 || now_ns < self.end_ns {
            return false;
        }
        if self.periodic {
            let period_ns = self.period_ns();
            let passed = (now_ns - self.end_ns) / period_ns + 1;
            self.end_ns = self.end_ns.saturating_add(passed.saturating_mul(period_ns));
        } else {
            self.length_ns = 0;
        }
        true
    }
}

/// Nanoseconds of a tick by the divide configuration register.
#[must_use]
pub const fn divisor(divide_configuration: u32) -> u32 {
    let bits = divide_configuration & 3 | divide_configuration >> 1 & 4;
    1 << ((bits + 1) & 7)
}
