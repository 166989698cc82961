//! What the processors of a partition share: MSRs of which there is one for all.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::inhibition::FlushOrder;
use super::reference_page::ReferencePage;

/// The part of a VM that is Hyper-V's.
#[derive(Debug, Default)]
pub struct Partition {
    /// Of flushes that hypercalls ask for.
    pub flush_order: FlushOrder,
    /// The guest has asked to see that its counters are invariant.
    pub invariant_tsc: Arc<AtomicBool>,
    processors: AtomicU32,
    shared: Mutex<Shared>,
}

/// The shared MSRs, by their names in the specification.
#[derive(Debug, Default)]
pub struct Shared {
    /// Not 0: the guest knows that it has a hypervisor.
    pub guest_os_id: u64,
    /// Where the hypercall page is.
    pub hypercall: u64,
    /// HV_X64_MSR_REFERENCE_TSC and its page.
    pub reference: ReferencePage,
    /// HV_X64_MSR_CRASH_P0 to P4.
    pub crash: [u64; 5],
    /// HV_X64_MSR_CRASH_CTL.
    pub crash_ctl: u64,
    /// HV_X64_MSR_REENLIGHTENMENT_CONTROL.
    pub reenlightenment: u64,
    /// HV_X64_MSR_TSC_EMULATION_STATUS.
    pub emulation_status: u64,
    /// The debugger's.
    pub debug: DebugMsrs,
    /// Connections that the root wants to hear of by MV_EXIT_HYPERV_SIGNAL.
    pub connections: BTreeSet<u32>,
}

/// HV_X64_MSR_SYNDBG_*: storage, for the root talks to the debugger.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebugMsrs {
    /// What is to be done.
    pub control: u64,
    /// What became of it.
    pub status: u64,
    /// A packet to be sent.
    pub send: u64,
    /// Where received packets go.
    pub receive: u64,
    /// Where it is said that one waits.
    pub pending: u64,
    /// How the interface is used.
    pub options: u64,
}

impl Partition {
    /// The number of a new processor.
    pub fn new_vp_index(&self) -> u32 {
        self.processors.fetch_add(1, Ordering::Relaxed)
    }

    /// The shared MSRs.
    pub fn shared(&self) -> MutexGuard<'_, Shared> {
        // Every change is one assignment.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
