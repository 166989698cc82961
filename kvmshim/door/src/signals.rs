//! Signals that end a KVM_RUN.
//!
//! `Documentation/virt/kvm/api.rst`, KVM_SET_SIGNAL_MASK. A signal that the thread does not block
//! comes as FUSE_INTERRUPT. One that the thread blocks and the mask of KVM_SET_SIGNAL_MASK does not
//! comes not at all: while a vCPU has a mask, a thread of the server looks every [`INTERVAL`] at what
//! is pending for the thread in its KVM_RUN. As in KVM the signal stays pending.
//!
//! Not done: a signal that the mask blocks and the thread does not ends KVM_RUN all the same.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;
use std::{fs, io};

use crate::run;

const INTERVAL: Duration = Duration::from_millis(1);

/// All signals are blocked: no mask.
const ALL: u64 = u64::MAX;

/// The signals of one vCPU.
pub struct Signals {
    vsid: u16,
    /// One has come for the thread in KVM_RUN.
    arrived: AtomicBool,
    /// The thread in KVM_RUN; 0: none.
    thread: AtomicU32,
    /// Blocked in KVM_RUN: signal n is bit n - 1. [`ALL`] without a mask.
    blocked: AtomicU64,
}

impl Signals {
    /// Of a vCPU without a mask.
    pub fn new(vsid: u16) -> Arc<Self> {
        Arc::new(Self {
            vsid,
            arrived: AtomicBool::new(false),
            thread: AtomicU32::new(0),
            blocked: AtomicU64::new(ALL),
        })
    }

    /// Sets the mask: signal n is bit n - 1.
    ///
    /// # Errors
    /// No thread can be had to look at the signals.
    pub fn set_mask(self: &Arc<Self>, mask: u64) -> io::Result<()> {
        self.blocked.store(mask, Ordering::Relaxed);
        if mask == ALL { Ok(()) } else { watch(self) }
    }

    /// A KVM_RUN of this thread begins.
    pub fn enter(&self, thread: u32) {
        self.arrived.store(false, Ordering::Relaxed);
        if self.blocked.load(Ordering::Relaxed) != ALL {
            self.thread.store(thread, Ordering::Release);
        }
    }

    /// The KVM_RUN is over.
    pub fn leave(&self) {
        self.thread.store(0, Ordering::Relaxed);
    }

    /// Whether one has come since `enter`.
    pub fn arrived(&self) -> bool {
        self.arrived.load(Ordering::Acquire)
    }

    /// One has come: leave the guest.
    pub fn arrive(&self) {
        self.arrived.store(true, Ordering::Release);
        run::kick(self.vsid);
    }

    /// Looks at what is pending; false when there is no mask any more.
    fn look(&self) -> bool {
        let blocked = self.blocked.load(Ordering::Relaxed);
        let thread = self.thread.load(Ordering::Acquire);
        let look = thread != 0 && !self.arrived() && blocked != ALL;
        if look && pending(thread) & !blocked != 0 {
            self.arrive();
        }
        blocked != ALL
    }
}

/// The vCPUs with a mask. The thread that looks at them lives while there are any.
static WATCHED: Mutex<Vec<Weak<Signals>>> = Mutex::new(Vec::new());

fn watch(signals: &Arc<Signals>) -> io::Result<()> {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    if watched.iter().any(|other| other.as_ptr() == Arc::as_ptr(signals)) {
        return Ok(());
    }
    if watched.is_empty() {
        thread::Builder::new().name("kvmshim-signals".into()).spawn(look_at_all)?;
    }
    watched.push(Arc::downgrade(signals));
    Ok(())
}

fn look_at_all() {
    loop {
        thread::sleep(INTERVAL);
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|signals| signals.upgrade().is_some_and(|signals| signals.look()));
        if watched.is_empty() {
            return;
        }
    }
}

/// What is pending for a thread, for itself or for its process; nothing if there is no such thread.
fn pending(thread: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let set = |line: &str| {
        let set = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    };
    status.lines().filter_map(set).fold(0, |all, set| all | set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_signals_and_no_thread_have_none_pending() {
        assert_eq!(pending(std::process::id()), 0);
        assert_eq!(pending(u32::MAX), 0);
    }

    #[test]
    fn a_vcpu_is_watched_while_it_has_a_mask() -> io::Result<()> {
        let signals = Signals::new(0);
        assert!(!signals.look());
        signals.set_mask(0)?;
        signals.set_mask(1)?;
        assert!(signals.look());
        signals.set_mask(ALL)?;
        assert!(!signals.look());
        Ok(())
    }
}
