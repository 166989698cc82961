//! Ends cases that do not end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cpu_engine::Kick;

/// A case that takes between one and two of these is given up.
const PATIENCE: Duration = Duration::from_millis(300);

/// Kicks a vCPU that is too long at one case.
pub struct Watchdog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Counts cases.
    case: AtomicU64,
    /// The case that was given up.
    given_up: AtomicU64,
    ended: AtomicBool,
}

impl Watchdog {
    /// Watches over the vCPU of this kick.
    #[must_use]
    pub fn over(kick: Arc<Kick>) -> Self {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        thread::spawn(move || watched.watch(&kick));
        Watchdog(shared)
    }

    /// Another case begins.
    pub fn begin(&self) {
        self.0.case.fetch_add(1, Ordering::SeqCst);
    }

    /// The present case was given up.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.0.given_up.load(Ordering::SeqCst) == self.0.case.load(Ordering::SeqCst)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn watch(&self, kick: &Kick) {
        let mut last = 0;
        while !self.ended.load(Ordering::SeqCst) {
            thread::sleep(PATIENCE);
            let now = self.case.load(Ordering::SeqCst);
            if now == last && now != 0 {
                self.given_up.store(now, Ordering::SeqCst);
                kick.exit();
            }
            last = now;
        }
    }
}
