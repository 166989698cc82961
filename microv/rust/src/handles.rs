//! Handles: tokens that open_handle gives and every pp, vm, vp and vs call shows.
//!
//! Each open gives a number never given before; closing it makes it invalid. A handle owns nothing:
//! objects outlive it and any open handle reaches them. The check takes no lock, since run makes it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::id::MV_MAX_HANDLES;

/// The open handles; 0 marks a free slot.
#[derive(Debug)]
pub struct Handles {
    slots: Box<[AtomicU64]>,
    /// Handles given so far; makes each number unique. 2^54 opens exhaust it.
    given: AtomicU64,
}

impl Default for Handles {
    fn default() -> Handles {
        let slots = (0..MV_MAX_HANDLES).map(|_| AtomicU64::new(0)).collect();
        Handles { slots, given: AtomicU64::new(0) }
    }
}

impl Handles {
    /// A new handle: its slot in the low bits, a serial number above. `None` when MV_MAX_HANDLES are
    /// open.
    pub fn open(&self) -> Option<u64> {
        let serial = self.given.fetch_add(1, Ordering::Relaxed) + 1;
        self.slots.iter().zip(0..).find_map(|(slot, index)| {
            let handle = serial * MV_MAX_HANDLES + index;
            slot.compare_exchange(0, handle, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
                .then_some(handle)
        })
    }

    /// Whether `handle` was given and not closed.
    pub fn is_open(&self, handle: u64) -> bool {
        handle != 0 && self.slot(handle).load(Ordering::Acquire) == handle
    }

    /// Closes `handle`; false where it was not open.
    pub fn close(&self, handle: u64) -> bool {
        handle != 0
            && self
                .slot(handle)
                .compare_exchange(handle, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    fn slot(&self, handle: u64) -> &AtomicU64 {
        &self.slots[(handle % MV_MAX_HANDLES) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_valid_from_open_to_close_and_never_again() {
        let handles = Handles::default();
        let first = handles.open().unwrap();
        assert!(handles.is_open(first));
        assert!(handles.close(first));
        assert!(!handles.is_open(first) && !handles.close(first));
        assert_ne!(handles.open(), Some(first));
    }

    #[test]
    fn zero_and_the_invalid_handle_are_never_open() {
        let handles = Handles::default();
        handles.open();
        assert!(!handles.is_open(0) && !handles.is_open(u64::MAX));
    }

    #[test]
    fn exhaustion_is_refused_and_ends_with_a_close() {
        let handles = Handles::default();
        let all: Vec<_> = (0..MV_MAX_HANDLES).map(|_| handles.open().unwrap()).collect();
        assert_eq!(handles.open(), None);
        assert!(handles.close(all[7]));
        assert!(handles.open().is_some());
    }
}
