//! Where the tables are that translations end in ("Paging-Structure Caches").
//!
//! An entry stands for those that a walk of four- or five-level paging has come by, with their accessed
//! bits set. Whatever invalidates a translation invalidates all entries.

use crate::walk::Start;

/// Regions of 2 MiB, whose translations end in a page table.
const PAGE_TABLES: usize = 64;
/// Regions of 1 GiB, whose translations end in a page directory, or beyond.
const DIRECTORIES: usize = 16;
/// Bits of a linear address that the tables of a region translate.
const SHIFTS: [u32; 2] = [21, 30];
/// No region: linear addresses have fewer.
const NOWHERE: u64 = u64::MAX;

/// The tables of one address space.
pub(crate) struct TableCache {
    page_tables: [(u64, Start); PAGE_TABLES],
    directories: [(u64, Start); DIRECTORIES],
    empty: bool,
}

impl TableCache {
    pub(crate) const fn new() -> Self {
        let nowhere = (NOWHERE, Start::NONE);
        TableCache {
            page_tables: [nowhere; PAGE_TABLES],
            directories: [nowhere; DIRECTORIES],
            empty: true,
        }
    }

    /// The last table known on the way to an address.
    #[inline]
    pub(crate) fn find(&self, gla: u64) -> Option<Start> {
        let [region, wide] = SHIFTS.map(|shift| gla >> shift);
        let (known, start) = self.page_tables[region as usize % PAGE_TABLES];
        if known == region {
            return Some(start);
        }
        let (known, start) = self.directories[wide as usize % DIRECTORIES];
        (known == wide).then_some(start)
    }

    /// Remembers the table that a translation has ended in.
    pub(crate) fn insert(&mut self, gla: u64, start: Start) {
        let [region, wide] = SHIFTS.map(|shift| gla >> shift);
        match start.level() {
            0 => self.page_tables[region as usize % PAGE_TABLES] = (region, start),
            1 => self.directories[wide as usize % DIRECTORIES] = (wide, start),
            _ => return,
        }
        self.empty = false;
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        if !std::mem::replace(&mut self.empty, true) {
            self.page_tables.iter_mut().for_each(|(region, _)| *region = NOWHERE);
            self.directories.iter_mut().for_each(|(region, _)| *region = NOWHERE);
        }
    }
}
