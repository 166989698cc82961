//! Which level interrupts the root's I/O APIC wants to hear the end of, in the split model.

use std::sync::atomic::{AtomicU32, Ordering};

use super::routing::{Route, Routing};

/// Trigger mode bit of MSI data.
const LEVEL: u32 = 1 << 15;

/// Their vectors, by bit.
#[derive(Debug, Default)]
pub(super) struct RootEnds([AtomicU32; 8]);

impl RootEnds {
    /// Those of the routes of the first `pins` lines.
    pub(super) fn follow(&self, routing: &Routing, pins: u32) {
        let mut vectors = [0; 8];
        for gsi in 0..pins {
            for route in routing.of(gsi) {
                if let Route::Msi { data, .. } = *route
                    && data & LEVEL != 0
                {
                    vectors[(data as usize & 0xFF) >> 5] |= 1 << (data & 31);
                }
            }
        }
        for (word, bits) in self.0.iter().zip(vectors) {
            word.store(bits, Ordering::Release);
        }
    }

    /// Whether this vector is one of them.
    pub(super) fn has(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)].load(Ordering::Acquire) & 1 << (vector & 31) != 0
    }
}
