//! Large tables that are zero at first, of which only what is touched takes memory.
//!
//! Unlike those of an allocator they do not count against what the machine has promised
//! (MAP_NORESERVE, mmap(2); `Documentation/mm/overcommit-accounting.rst`): there may be thousands of
//! processors that never run.
//!
//! `unsafe`: mmap and a slice of what it has returned.
#![allow(unsafe_code)]

use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

/// Words at a page's start, zero at first.
pub struct ZeroedWords {
    at: NonNull<u64>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and is not bound to a thread.
unsafe impl Send for ZeroedWords {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for ZeroedWords {}

impl ZeroedWords {
    /// `len` words, at least one. Ends the process when there is no memory, as an allocation does.
    ///
    /// # Panics
    /// When their size is no `isize`.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let layout = Layout::array::<u64>(len.max(1)).expect("it fits into memory");
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: without MAP_FIXED a new mapping disturbs no other.
        let at = unsafe { libc::mmap(ptr::null_mut(), layout.size(), protection, flags, -1, 0) };
        match NonNull::new(at) {
            Some(mapped) if at != libc::MAP_FAILED => ZeroedWords { at: mapped.cast(), len },
            _ => handle_alloc_error(layout),
        }
    }
}

impl Deref for ZeroedWords {
    type Target = [u64];

    #[inline(always)]
    fn deref(&self) -> &[u64] {
        // SAFETY: that many words are mapped, zero is one, and nobody writes while this is borrowed.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl DerefMut for ZeroedWords {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u64] {
        // SAFETY: as above, and nobody else reads.
        unsafe { slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Drop for ZeroedWords {
    fn drop(&mut self) {
        // SAFETY: `new` has mapped it, and nothing borrows it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len.max(1) * size_of::<u64>()) };
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn they_are_zero_at_first_and_keep_what_they_get() {
        let mut words = ZeroedWords::new(1000);
        assert!(words.iter().all(|&word| word == 0));
        words[999] = 7;
        assert_eq!((words.len(), words[999], words[0]), (1000, 7, 0));
        assert!(words.as_ptr().addr().is_multiple_of(4096));
    }

    #[test]
    fn more_than_the_machine_has_can_be_promised() {
        let tables: Vec<_> = (0..64).map(|_| ZeroedWords::new(1 << 30)).collect();
        assert_eq!(tables.iter().map(|table| table[1 << 29]).sum::<u64>(), 0);
    }
}
