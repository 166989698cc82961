//! How often and how long a vCPU sleeps instead of executing; for any thread to read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Counts since the vCPU was created.
#[derive(Debug, Default)]
pub struct SleepCounts {
    wakeups: AtomicU64,
    hlt_wait_ns: AtomicU64,
    preemptions: AtomicU64,
    asleep: AtomicBool,
}

impl SleepCounts {
    /// Notifications that found it asleep.
    pub fn wakeups(&self) -> u64 {
        self.wakeups.load(Ordering::Relaxed)
    }

    /// Nanoseconds that it has slept in HLT.
    pub fn hlt_wait_ns(&self) -> u64 {
        self.hlt_wait_ns.load(Ordering::Relaxed)
    }

    /// Times that its guest was told that it does not execute.
    pub fn preemptions(&self) -> u64 {
        self.preemptions.load(Ordering::Relaxed)
    }

    /// It sleeps now, be it interrupted to forget pages.
    pub fn asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Its thread sleeps until the [`Slept`] of this time is dropped.
    pub fn set_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
    }

    /// A notification found it asleep.
    pub fn add_wakeup(&self) {
        self.wakeups.fetch_add(1, Ordering::Relaxed);
    }

    /// Its guest was told that it does not execute.
    pub fn add_preemption(&self) {
        self.preemptions.fetch_add(1, Ordering::Relaxed);
    }

    /// It is about to sleep; `halted`: in HLT.
    pub fn begin(&self, halted: bool) -> Slept<'_> {
        Slept { counts: self, since: halted.then(Instant::now) }
    }
}

/// A sleep, until it is dropped.
#[derive(Debug)]
pub struct Slept<'a> {
    counts: &'a SleepCounts,
    /// When its HLT began.
    since: Option<Instant>,
}

impl Drop for Slept<'_> {
    fn drop(&mut self) {
        self.counts.asleep.store(false, Ordering::Relaxed);
        if let Some(since) = self.since {
            let ns = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.counts.hlt_wait_ns.fetch_add(ns, Ordering::Relaxed);
        }
    }
}
