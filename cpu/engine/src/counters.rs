//! What a vCPU has done so far, in numbers.
//!
//! Only the thread that uses the vCPU counts, so a count costs a load and a store; any thread may read,
//! also while the vCPU runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cpu_interp::{Executed, Interp};

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
    /// RDMSR and WRMSR that left.
    Msr,
    /// VMCALL and VMMCALL.
    Hypercall,
    /// Steps and breakpoints of the host.
    Debug,
    /// Accesses to memory that is refused.
    Refused,
    /// Triple faults, and states that were lost.
    Shutdown,
    /// Exits because many pages were noted.
    Noted,
    /// Interrupts delivered.
    Interrupts,
    /// NMIs delivered.
    Nmis,
    /// Times translations were dropped because another thread asked for it.
    Flushes,
}

const NUMBER: usize = Count::Flushes as usize + 1;

/// The counts of one vCPU; they begin at 0 and never go back.
#[derive(Debug, Default)]
pub struct Counters {
    counts: [AtomicU64; NUMBER],
    executed: Arc<Executed>,
    page_faults: Arc<AtomicU64>,
}

impl Counters {
    pub(crate) fn new(cpu: &Interp) -> Counters {
        let page_faults = Arc::clone(&cpu.cpu.page_faults);
        Counters { counts: Default::default(), executed: cpu.executed(), page_faults }
    }

    /// How often it has happened.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// Instructions that the vCPU has [executed](Executed).
    #[must_use]
    pub fn instructions(&self) -> u64 {
        self.executed.get()
    }

    /// Page faults that the guest has caused.
    #[must_use]
    pub fn page_faults(&self) -> u64 {
        self.page_faults.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: Count) {
        let counter = &self.counts[count as usize];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn add_exit(&self, exit: &Exit) {
        self.add(Count::Exits);
        self.add(Count::of(exit));
    }
}

impl Count {
    /// What an exit counts as, beside [`Count::Exits`].
    #[must_use]
    pub fn of(exit: &Exit) -> Count {
        match exit {
            Exit::Io(_) => Count::Io,
            Exit::Mmio(_) => Count::Mmio,
            Exit::Hlt => Count::Halt,
            Exit::Interrupted | Exit::Arrived | Exit::Paused => Count::Interrupted,
            Exit::InterruptWindow => Count::Window,
            Exit::EmulationFailure { .. } => Count::Failed,
            Exit::Msr(_) => Count::Msr,
            Exit::Hypercall(_) => Count::Hypercall,
            Exit::Debug(_) => Count::Debug,
            Exit::Refused { .. } => Count::Refused,
            Exit::Shutdown | Exit::Lost => Count::Shutdown,
            Exit::Noted => Count::Noted,
        }
    }
}
