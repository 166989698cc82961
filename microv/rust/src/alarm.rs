//! Alarms: something that happens at a time. One thread of the process waits for all of them.
//!
//! Times are nanoseconds of [`now_ns`], a clock that starts with the process and never stops or
//! goes back.

use std::collections::BTreeMap;
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
    /// Tells it from others that ring at the same time.
    number: u64,
    at_ns: AtomicU64,
    /// When the waiter looks at it, not later than `at_ns`. Changed behind the waiter's lock.
    queued_ns: AtomicU64,
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
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Arc::new(Alarm {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            at_ns: AtomicU64::new(OFF),
            queued_ns: AtomicU64::new(OFF),
            ring: Box::new(ring),
        })
    }

    /// Sets the time; None switches it off. Only a time that is earlier than any since it last rang
    /// takes a lock.
    pub fn set(self: &Arc<Self>, at_ns: Option<u64>) {
        let at_ns = at_ns.unwrap_or(OFF);
        self.at_ns.store(at_ns, Ordering::SeqCst);
        // Either this sees that the waiter is done with the time before, or the waiter sees this one.
        if at_ns < self.queued_ns.load(Ordering::SeqCst) {
            WAITER.queue(at_ns, self);
        }
    }

    /// Rings if its time has come, and is waited for again if that is later now.
    fn expire(self: &Arc<Self>, now_ns: u64) {
        let come = |at_ns: u64| (at_ns <= now_ns).then_some(OFF);
        match self.at_ns.fetch_update(Ordering::SeqCst, Ordering::SeqCst, come) {
            Ok(_) => (self.ring)(),
            Err(OFF) => {}
            Err(later) => WAITER.queue(later, self),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let queued = self.queued_ns.load(Ordering::SeqCst);
        if queued != OFF {
            WAITER.lock().remove(&(queued, self.number));
        }
    }
}

/// The alarms that are waited for, each once, by time and number.
type Entries = BTreeMap<(u64, u64), Weak<Alarm>>;

/// The entries, and their thread.
struct Waiter {
    entries: Mutex<Entries>,
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
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an alarm looked at, at `at_ns` at the latest.
    fn queue(&self, at_ns: u64, alarm: &Arc<Alarm>) {
        let mut entries = self.lock();
        let queued_ns = alarm.queued_ns.load(Ordering::SeqCst);
        if queued_ns <= at_ns {
            return;
        }
        entries.remove(&(queued_ns, alarm.number));
        let is_first = entries.first_key_value().is_none_or(|((first, _), _)| at_ns < *first);
        entries.insert((at_ns, alarm.number), Arc::downgrade(alarm));
        alarm.queued_ns.store(at_ns, Ordering::SeqCst);
        drop(entries);
        if is_first {
            self.earlier.notify_one();
        }
    }

    fn wait_for_all(&self) -> ! {
        let mut entries = self.lock();
        loop {
            let now_ns = now_ns();
            let due = entries.first_key_value().map(|((at_ns, _), _)| *at_ns);
            entries = match due {
                Some(at_ns) if at_ns <= now_ns => {
                    let alarm = entries.pop_first().and_then(|(_, alarm)| alarm.upgrade());
                    if let Some(alarm) = &alarm {
                        alarm.queued_ns.store(OFF, Ordering::SeqCst);
                    }
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
    fn a_later_time_is_waited_for() {
        let (alarm, rung) = alarm();
        alarm.set(Some(now_ns() + 1_000_000));
        let later = now_ns() + 3_000_000;
        alarm.set(Some(later));
        rung.recv().unwrap();
        assert!(now_ns() >= later);
    }

    #[test]
    fn an_alarm_that_is_set_while_it_rings_rings_again() {
        let (alarm, rung) = alarm();
        for _ in 0..10_000 {
            alarm.set(Some(now_ns()));
            rung.recv().unwrap();
        }
    }

    #[test]
    fn however_often_it_is_set_it_is_waited_for_once() {
        const HOUR_NS: u64 = 3_600_000_000_000;
        let (alarm, rung) = alarm();
        let mine = |alarm: &Alarm| {
            WAITER.lock().keys().filter(|(_, number)| *number == alarm.number).count()
        };
        for step in 0..1000 {
            alarm.set(Some(now_ns() + HOUR_NS - step * 1_000_000));
            alarm.set(Some(now_ns() + HOUR_NS + step));
            assert_eq!(mine(&alarm), 1);
        }
        let number = alarm.number;
        drop(alarm);
        assert!(WAITER.lock().keys().all(|(_, other)| *other != number));
        assert!(rung.recv().is_err());
    }

    #[test]
    fn a_time_that_never_comes_is_no_trouble() {
        let (alarm, rung) = alarm();
        alarm.set(Some(u64::MAX - 1));
        pass_the_present();
        assert_eq!(rung.try_recv(), Err(TryRecvError::Empty));
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
