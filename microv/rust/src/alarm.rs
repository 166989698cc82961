//! Alarms: something that happens at a time. One thread of the process waits for all of them.
//!
//! Times are nanoseconds of [`now_ns`], a clock that starts with the process and never stops or
//! goes back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Not set.
const OFF: u64 = u64::MAX;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the process first asked.
pub fn now_ns() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Something that happens at a time, once for each time that is set.
pub struct Alarm {
    at_ns: AtomicU64,
    ring: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("at_ns", &self.at_ns).finish_non_exhaustive()
    }
}

impl Alarm {
    /// An alarm that is not set. `ring` is called by the waiting thread and must not block.
    pub fn new(ring: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Alarm { at_ns: AtomicU64::new(OFF), ring: Box::new(ring) })
    }

    /// Sets the time; None switches it off.
    pub fn set(self: &Arc<Self>, at_ns: Option<u64>) {
        let at_ns = at_ns.unwrap_or(OFF);
        if self.at_ns.swap(at_ns, Ordering::AcqRel) != at_ns && at_ns != OFF {
            WAITER.add(at_ns, self);
        }
    }

    /// Rings if its time has come; a time that was set later than the one that was waited for has
    /// an entry of its own.
    fn expire(&self, now_ns: u64) {
        let come = |at_ns: u64| (at_ns <= now_ns).then_some(OFF);
        if self.at_ns.fetch_update(Ordering::AcqRel, Ordering::Acquire, come).is_ok() {
            (self.ring)();
        }
    }
}

/// An alarm that was set, by time.
struct Entry {
    at_ns: Reverse<u64>,
    alarm: Weak<Alarm>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at_ns == other.at_ns
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at_ns.cmp(&other.at_ns)
    }
}

/// The entries, and their thread.
struct Waiter {
    entries: Mutex<BinaryHeap<Entry>>,
    earlier: Condvar,
}

static WAITER: LazyLock<&'static Waiter> = LazyLock::new(|| {
    let waiter: &'static Waiter =
        Box::leak(Box::new(Waiter { entries: Mutex::default(), earlier: Condvar::new() }));
    let thread = std::thread::Builder::new().name("alarms".into());
    // Without the thread no timer works, and there is nobody to tell but the log of the process.
    thread.spawn(move || waiter.wait_for_all()).expect("a thread for the alarms");
    waiter
});

impl Waiter {
    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, at_ns: u64, alarm: &Arc<Alarm>) {
        let mut entries = self.lock();
        let first = entries.peek().map_or(OFF, |entry| entry.at_ns.0);
        entries.push(Entry { at_ns: Reverse(at_ns), alarm: Arc::downgrade(alarm) });
        if at_ns < first {
            self.earlier.notify_one();
        }
    }

    fn wait_for_all(&self) -> ! {
        let mut entries = self.lock();
        loop {
            let now_ns = now_ns();
            let due = entries.peek().map(|entry| entry.at_ns.0);
            entries = match due {
                Some(at_ns) if at_ns <= now_ns => {
                    let alarm = entries.pop().and_then(|entry| entry.alarm.upgrade());
                    drop(entries);
                    if let Some(alarm) = alarm {
                        alarm.expire(now_ns);
                    }
                    self.lock()
                }
                Some(at_ns) => {
                    let limit = Duration::from_nanos(at_ns - now_ns);
                    let waited = self.earlier.wait_timeout(entries, limit);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.earlier.wait(entries).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, Receiver, TryRecvError};

    fn alarm() -> (Arc<Alarm>, Receiver<()>) {
        let (sender, receiver) = mpsc::channel();
        let sender = Mutex::new(sender);
        let ring = move || {
            let _ = sender.lock().unwrap().send(());
        };
        (Alarm::new(ring), receiver)
    }

    /// Returns when everything that was due before it has rung.
    fn pass_the_present() {
        let (last, rung) = alarm();
        last.set(Some(now_ns()));
        rung.recv().unwrap();
    }

    #[test]
    fn an_alarm_rings_once() {
        let (alarm, rung) = alarm();
        alarm.set(Some(0));
        rung.recv().unwrap();
        pass_the_present();
        assert_eq!(rung.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn an_alarm_that_is_switched_off_does_not_ring() {
        let (alarm, rung) = alarm();
        alarm.set(Some(now_ns() + 3_600_000_000_000));
        alarm.set(None);
        pass_the_present();
        assert_eq!(rung.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn an_earlier_time_overtakes() {
        let (alarm, rung) = alarm();
        alarm.set(Some(now_ns() + 3_600_000_000_000));
        alarm.set(Some(now_ns() + 1_000_000));
        rung.recv().unwrap();
    }

    #[test]
    fn a_dropped_alarm_is_forgotten() {
        let (alarm, rung) = alarm();
        alarm.set(Some(now_ns() + 3_600_000_000_000));
        drop(alarm);
        pass_the_present();
        assert_eq!(rung.try_recv(), Err(TryRecvError::Disconnected));
    }
}
