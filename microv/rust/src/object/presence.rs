//! Whether a vCPU may still use pages that were taken out of the page map.
//!
//! Who uses the state of a VS is present from before the first access to guest memory to after the
//! last. Whoever unmaps asks for a flush and then waits until the vCPU has either acknowledged it or
//! was seen absent: one that comes back flushes before it uses what it remembers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use cpu_engine::Kick;

/// What other threads see and ask of a vCPU.
#[derive(Debug, Default)]
pub struct Presence {
    /// Makes it leave, flush and acknowledge.
    pub kick: Arc<Kick>,
    present: AtomicBool,
}

impl Presence {
    /// The calling thread uses the vCPU for as long as the result lives.
    pub fn enter(&self) -> Present<'_> {
        self.present.store(true, Ordering::Relaxed);
        // Orders the store before this thread's reads of the page map; see `has_forgotten`.
        fence(Ordering::SeqCst);
        Present(self)
    }

    /// Since the flush was asked for, the vCPU has flushed or was absent.
    pub fn has_forgotten(&self) -> bool {
        // Orders the removal from the page map before the look: one of both sees the other.
        fence(Ordering::SeqCst);
        self.kick.acked() || !self.present.load(Ordering::Acquire)
    }
}

/// Presence for a time.
#[derive(Debug)]
pub struct Present<'a>(&'a Presence);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.present.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_present_vcpu_has_to_acknowledge_and_an_absent_one_has_not() {
        let vcpu = Presence::default();
        let present = vcpu.enter();
        vcpu.kick.flush();
        assert!(!vcpu.has_forgotten());
        drop(present);
        assert!(vcpu.has_forgotten());
    }
}
