//! What a hit looks at.

use cpu_mem::ZeroedWords;

use crate::Privilege;

pub(super) const PAGES_PER_PRIVILEGE: usize = 16384;
pub(super) const ENTRIES: usize = PAGES_PER_PRIVILEGE * Privilege::ALL.len();
pub(super) const PAGE_MASK: u64 = !(cpu_mem::PAGE_SIZE as u64 - 1);

/// Words of an entry, and which is which; an entry does not cross a line of the host's cache.
pub(super) const WORDS: usize = 4;
pub(super) const READ: usize = 0;
pub(super) const WRITE: usize = 1;
pub(super) const HOST: usize = 2;
pub(super) const EXECUTE: usize = 3;

/// What a hit needs: tags, which are linear page addresses or [`no_page`], and the address of the page in
/// this process. Translated code looks here by itself, see [`super::Tlb::table`].
///
/// Nearly all of it is zero at first, which takes no memory until it is written.
pub(super) struct Table(ZeroedWords);

impl Table {
    pub(super) fn new() -> Self {
        let mut table = Table(ZeroedWords::new(WORDS * ENTRIES));
        Privilege::ALL.iter().for_each(|&privilege| table.clear(index(privilege, 0)));
        table
    }

    #[inline(always)]
    pub(super) fn get(&self, index: usize, word: usize) -> u64 {
        self.0[index * WORDS + word]
    }

    #[inline(always)]
    pub(super) fn set(&mut self, index: usize, word: usize, value: u64) {
        self.0[index * WORDS + word] = value;
    }

    pub(super) fn clear(&mut self, index: usize) {
        [READ, WRITE, EXECUTE].into_iter().for_each(|tag| self.set(index, tag, no_page(index)));
        self.set(index, HOST, 0);
    }

    /// Where the entries of a privilege begin.
    #[inline(always)]
    pub(super) fn start(&self, privilege: Privilege) -> *const u8 {
        (&raw const self.0[index(privilege, 0) * WORDS]).cast()
    }
}

/// How translated code finds an entry: `gla >> PAGE_SHIFT`, modulo [`layout::ENTRIES`], is its
/// number in [`super::Tlb::table`].
pub mod layout {
    /// Entries of a table.
    pub const ENTRIES: usize = super::PAGES_PER_PRIVILEGE;
    /// Bytes of an entry.
    pub const ENTRY_LEN: usize = super::WORDS * 8;
    /// Offset of the linear address of a page that can be loaded from, in 64 bits.
    pub const READ: usize = super::READ * 8;
    /// Offset of the linear address of a page that can be stored to.
    pub const WRITE: usize = super::WRITE * 8;
    /// Offset of the address of that page in this process.
    pub const HOST: usize = super::HOST * 8;
    /// Offset of the linear address of a page that instructions can be fetched from.
    pub const EXECUTE: usize = super::EXECUTE * 8;
}

/// A tag for entry `index` that differs from the page of every address that leads there: 0, where it can.
#[inline(always)]
pub(super) const fn no_page(index: usize) -> u64 {
    if index.is_multiple_of(PAGES_PER_PRIVILEGE) { 1 << 12 } else { 0 }
}

#[inline(always)]
pub(super) fn index(privilege: Privilege, gla: u64) -> usize {
    privilege as usize * PAGES_PER_PRIVILEGE + (gla >> 12) as usize % PAGES_PER_PRIVILEGE
}
