//! How messages of devices name local APICs in x2APIC mode. A message of an MSI has a byte for the ID;
//! the root can agree with the guest on more.

use std::sync::atomic::{AtomicBool, Ordering};

/// What the root and the guest of a VM agree on.
#[derive(Debug, Default)]
pub struct X2apicFormat {
    wide_ids: AtomicBool,
    no_byte_broadcast: AtomicBool,
}

impl X2apicFormat {
    /// Sets both.
    pub fn set(&self, wide_ids: bool, byte_broadcast: bool) {
        self.wide_ids.store(wide_ids, Ordering::Release);
        self.no_byte_broadcast.store(!byte_broadcast, Ordering::Release);
    }

    /// IDs have 32 bits.
    pub fn has_wide_ids(&self) -> bool {
        self.wide_ids.load(Ordering::Acquire)
    }

    /// FFH means all.
    pub fn has_byte_broadcast(&self) -> bool {
        !self.no_byte_broadcast.load(Ordering::Acquire)
    }
}
