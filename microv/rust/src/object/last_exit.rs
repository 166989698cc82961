//! What a VS came back to the root for last.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::activity::MV_ACTIVITY_NO_EXIT;

/// How often run came back, and with which exit.
#[derive(Debug)]
pub struct LastExit {
    count: AtomicU64,
    reason: AtomicU64,
}

impl LastExit {
    /// Run comes back with this mv_exit_reason_t. Only the user of the state calls.
    pub fn set(&self, reason: u64) {
        self.count.store(self.count() + 1, Ordering::Relaxed);
        self.reason.store(reason, Ordering::Relaxed);
    }

    /// How often it did.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// mv_exit_reason_t of the last time, or MV_ACTIVITY_NO_EXIT.
    pub fn reason(&self) -> u64 {
        self.reason.load(Ordering::Relaxed)
    }
}

impl Default for LastExit {
    fn default() -> LastExit {
        LastExit { count: AtomicU64::new(0), reason: AtomicU64::new(MV_ACTIVITY_NO_EXIT) }
    }
}
