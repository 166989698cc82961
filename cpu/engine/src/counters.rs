//! What a vCPU has done so far, in numbers.
//!
//! Only the thread that uses the vCPU counts, so a count costs a load and a store; any thread may read,
//! also while the vCPU runs.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Exit;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Exits of any kind.
    Exits,
    /// Port accesses that left.
    Io,
    /// Memory accesses without a page that left.
    Mmio,
    /// HLT.
    Halt,
    /// Exits that another thread asked for.
    Interrupted,
    /// Exits because the guest could take an interrupt.
    Window,
    /// Instructions that could not be executed.
    Failed,
    /// Interrupts delivered.
    Interrupts,
    /// NMIs delivered.
    Nmis,
    /// Times all translations were dropped because another thread asked for it.
    Flushes,
}

const NUMBER: usize = Count::Flushes as usize + 1;

/// The counts of one vCPU; they begin at 0 and never go back.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; NUMBER]);

impl Counters {
    /// How often it has happened.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: Count) {
        let counter = &self.0[count as usize];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn add_exit(&self, exit: &Exit) {
        self.add(Count::Exits);
        match exit {
            Exit::Io(_) => self.add(Count::Io),
            Exit::Mmio(_) => self.add(Count::Mmio),
            Exit::Hlt => self.add(Count::Halt),
            Exit::Interrupted | Exit::Arrived => self.add(Count::Interrupted),
            Exit::InterruptWindow => self.add(Count::Window),
            Exit::EmulationFailure { .. } => self.add(Count::Failed),
            _ => {}
        }
    }
}
