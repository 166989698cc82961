//! The pages whose dirty bits the calling thread has set, in order.
//!
//! The map belongs to all vCPUs, and who of them wrote a page is known only where the bit is set; so
//! the note is kept with the thread, which runs one vCPU at a time and hands its notes on before it
//! runs another one. A page is noted once until its bit is taken.

use std::cell::RefCell;
use std::sync::OnceLock;

use crate::PhysMap;

thread_local! {
    static NOTED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Whether a map has its writes noted, and what is added to the addresses.
#[derive(Debug, Default)]
pub(crate) struct Journal(OnceLock<u64>);

impl Journal {
    /// The bit of the page at `gpa` was set.
    #[cold]
    pub(crate) fn note(&self, gpa: u64) {
        if let Some(label) = self.0.get() {
            NOTED.with_borrow_mut(|noted| noted.push(gpa & !0xfff | label));
        }
    }
}

impl PhysMap {
    /// From now on threads note the pages whose bits they set, with the bits of `label` added to
    /// the guest-physical address. The first label stays.
    pub fn note_writes(&self, label: u64) {
        let _ = self.journal.0.set(label);
    }

    /// Whether written pages are noted.
    #[inline]
    pub fn notes_writes(&self) -> bool {
        self.journal.0.get().is_some()
    }
}

/// How many pages the calling thread has noted.
pub fn noted() -> usize {
    NOTED.with_borrow(Vec::len)
}

/// Takes the notes of the calling thread.
pub fn take_noted() -> Vec<u64> {
    NOTED.take()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PageFlags;
    use crate::phys_map::tests::map_with_page;

    const GPA: u64 = 0x3000;
    const LABEL: u64 = 1 << 50;

    fn logged() -> PhysMap {
        let map = map_with_page(GPA, PageFlags::ALL);
        assert!(map.log_writes(GPA, true, false));
        map
    }

    #[test]
    fn a_page_is_noted_when_its_bit_is_set() {
        let map = logged();
        map.note_writes(LABEL);
        map.page(GPA);
        assert_eq!(noted(), 0);
        map.page_to_write(GPA + 0x123);
        map.page_to_write(GPA);
        assert_eq!(take_noted(), [GPA | LABEL]);
        assert!(map.take_written(GPA));
        map.page_to_write(GPA);
        assert_eq!(take_noted(), [GPA | LABEL]);
        assert_eq!(noted(), 0);
    }

    #[test]
    fn the_first_touch_of_a_page_mapped_with_a_log_is_noted() {
        let map = map_with_page(GPA, PageFlags::ALL | PageFlags::LOGGED);
        map.note_writes(0);
        map.page(GPA);
        assert_eq!(take_noted(), [GPA]);
    }

    #[test]
    fn nothing_is_noted_unasked() {
        logged().page_to_write(GPA);
        assert_eq!(noted(), 0);
    }
}
