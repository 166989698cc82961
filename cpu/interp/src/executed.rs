//! How many instructions a processor has executed.

use std::sync::atomic::{AtomicU64, Ordering};

/// The count of one processor, which begins at 0. Its own thread counts, a block when it has ended;
/// any thread may read. Translated code counts for itself and says how far it is when it is left, for
/// which a kick is enough.
///
/// Counted is what ran to its end: neither an instruction that faulted, nor one that waits for an answer
/// from outside before it has it. A string instruction counts each time that it is interrupted or ends.
#[derive(Debug, Default)]
pub struct Executed(AtomicU64);

impl Executed {
    /// Instructions until now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// So many they are by now.
    pub fn set(&self, instructions: u64) {
        self.0.store(instructions, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn add(&self, instructions: usize) {
        // There is one writer, so nothing is lost between the two.
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(instructions as u64),
            Ordering::Relaxed,
        );
    }
}
