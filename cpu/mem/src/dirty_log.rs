//! Which pages the guest has written: a bit in the entry of each page whose writes are logged.
//!
//! A page that was mapped with its log counts as written when it is first looked up for whatever: so
//! it is in KVM, where that look-up makes it writable for the guest.
//!
//! Laws:
//! - Who is going to store to guest memory gets the page from [`PhysMap::page_to_write`], which sets
//!   the bit. What it was given may be kept for further stores until the next flush that its holder
//!   acknowledges.
//! - Whoever takes a bit therefore asks every holder for such a flush, and reads or hands out the
//!   page only when all have acknowledged: a store through a kept page is then either before that,
//!   or sets the bit anew. No lock is taken, and no store is lost.

use std::sync::atomic::Ordering;

use crate::phys_map::{LOG_BITS, LOGGED, UNTOUCHED, WRITTEN};
use crate::{HostPage, PageFlags, PhysMap};

const WRITABLE: u64 = PageFlags::WRITE.bits() as u64;

impl PhysMap {
    /// [`page`](Self::page) for a store, which is noted if the page can be written and its writes
    /// are logged.
    #[inline]
    pub fn page_to_write(&self, gpa: u64) -> Option<HostPage> {
        let is_noted = |seen| seen & (LOGGED | WRITTEN | WRITABLE) == LOGGED | WRITABLE;
        let mut seen = self.load(gpa);
        if !is_noted(seen) {
            return HostPage::from_entry(seen);
        }
        let entry = self.entry_of(gpa)?;
        while is_noted(seen) {
            // The store comes after the bit is there, and another page is not mistaken for this.
            match entry.compare_exchange_weak(
                seen,
                (seen | WRITTEN) & !UNTOUCHED,
                Ordering::SeqCst,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    self.journal.note(gpa);
                    break;
                }
                Err(now) => seen = now,
            }
        }
        HostPage::from_entry(seen)
    }

    /// Whether a store to the page would be noted nowhere, or has been. As with
    /// [`page_to_write`](Self::page_to_write) this may be relied on until the next flush.
    #[inline]
    pub fn notes_no_write(&self, gpa: u64) -> bool {
        self.load(gpa) & (LOGGED | WRITTEN) != LOGGED
    }

    /// Switches the logging of a page on, with its bit as `written` says, or off. False if there is
    /// no page.
    pub fn log_writes(&self, gpa: u64, on: bool, written: bool) -> bool {
        let bits = if on { LOGGED } else { 0 } | if on && written { WRITTEN } else { 0 };
        self.change(gpa, |entry| entry & !LOG_BITS | bits).is_some()
    }

    /// Whether the page was written since its bit was taken.
    pub fn is_written(&self, gpa: u64) -> bool {
        self.load(gpa) & WRITTEN != 0
    }

    /// Takes the bit of a page: whether it was set.
    pub fn take_written(&self, gpa: u64) -> bool {
        self.is_written(gpa)
            && self.change(gpa, |entry| entry & !WRITTEN).is_some_and(|old| old & WRITTEN != 0)
    }

    /// Replaces an entry that is not vacant; returns the old one.
    fn change(&self, gpa: u64, new: impl Fn(u64) -> u64) -> Option<u64> {
        let replace = |entry| (entry != 0).then(|| new(entry));
        self.entry_of(gpa)?.fetch_update(Ordering::SeqCst, Ordering::SeqCst, replace).ok()
    }
}

#[cfg(test)]
mod tests {
    use crate::phys_map::tests::map_with_page;
    use crate::{PageFlags, PhysMap};

    const GPA: u64 = 0x3000;

    fn logged() -> PhysMap {
        let map = map_with_page(GPA, PageFlags::ALL);
        assert!(map.log_writes(GPA, true, false));
        map
    }

    #[test]
    fn a_page_is_written_once_it_is_fetched_for_a_store() {
        let map = logged();
        assert!(map.page(GPA).is_some() && !map.is_written(GPA));
        assert_eq!(map.page_to_write(GPA + 0x123), map.page(GPA));
        assert!(map.is_written(GPA));
    }

    #[test]
    fn a_bit_is_taken_once() {
        let map = logged();
        map.page_to_write(GPA);
        assert!(map.take_written(GPA));
        assert!(!map.take_written(GPA));
        map.page_to_write(GPA);
        assert!(map.take_written(GPA));
    }

    #[test]
    fn a_page_that_is_not_logged_has_no_bit() {
        let map = map_with_page(GPA, PageFlags::ALL);
        map.page_to_write(GPA);
        assert!(!map.is_written(GPA));
        let map = logged();
        map.page_to_write(GPA);
        map.log_writes(GPA, false, true);
        assert!(!map.is_written(GPA));
    }

    #[test]
    fn logging_may_begin_with_the_bit_set() {
        let map = logged();
        map.log_writes(GPA, true, true);
        assert!(map.take_written(GPA));
    }

    #[test]
    fn the_first_touch_of_a_page_mapped_with_a_log_counts() {
        let map = map_with_page(GPA, PageFlags::ALL | PageFlags::LOGGED);
        assert!(!map.is_written(GPA));
        assert_eq!(map.page(GPA).unwrap().flags(), PageFlags::ALL);
        assert!(map.take_written(GPA));
        assert!(map.page(GPA).is_some() && !map.is_written(GPA));
    }

    #[test]
    fn a_page_that_cannot_be_written_is_not() {
        let map = map_with_page(GPA, PageFlags::READ);
        let before = map.page(GPA);
        map.log_writes(GPA, true, false);
        assert_eq!(map.page_to_write(GPA), before);
        assert_eq!(map.page(GPA), before);
        assert!(!map.is_written(GPA));
    }

    #[test]
    fn where_no_page_is_nothing_is_logged() {
        let map = PhysMap::new();
        assert!(!map.log_writes(GPA, true, true));
        assert_eq!(map.page_to_write(GPA), None);
        assert!(!map.take_written(GPA));
        assert_eq!(map.page_to_write(u64::MAX), None);
    }
}
