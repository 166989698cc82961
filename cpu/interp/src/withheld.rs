//! What a processor has and its host keeps from the guest, beside what CPUID and MSRs are told to hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// By default nothing.
#[derive(Clone, Debug, Default)]
pub struct Withheld {
    /// Whether CPUID shows that the counter is invariant, if its table says so; None: it does.
    pub invariant_tsc: Option<Arc<AtomicBool>>,
    /// [`user_stores`] that are #GP(0) in user code, as all of them are with CR4.UMIP.
    pub user_stores: u8,
}

/// Instructions that show user code where the supervisor's tables are.
#[allow(missing_docs, reason = "the names are the instructions'")]
pub mod user_stores {
    pub const SGDT: u8 = 1 << 0;
    pub const SIDT: u8 = 1 << 1;
    pub const SLDT: u8 = 1 << 2;
    pub const STR: u8 = 1 << 3;
}

impl Withheld {
    /// CPUID must not show that the counter is invariant.
    pub(crate) fn hides_invariant_tsc(&self) -> bool {
        self.invariant_tsc.as_ref().is_some_and(|shown| !shown.load(Ordering::Relaxed))
    }
}
