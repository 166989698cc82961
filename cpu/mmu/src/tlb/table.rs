//! What a hit looks at.

use cpu_mem::ZeroedWords;

use crate::Privilege;

pub(super) const PAGES_PER_PRIVILEGE: usize = 16384;
pub(super) const ENTRIES: usize = PAGES_PER_PRIVILEGE * Privilege::ALL.len();
pub(super) const PAGE_MASK: u64 = !(cpu_mem::PAGE_SIZE as u64 - 1);

/// Words of an entry, and which is which; an entry does not cross a line of the host's cache.
const WORDS: usize = 4;
pub(super) const READ: usize = 0;
pub(super) const WRITE: usize = 1;
pub(super) const HOST: usize = 2;
const DISTANCE: usize = 3;
/// Behind the entries of a privilege: this one of each.
pub(super) const EXECUTE: usize = 4;
/// Words of a privilege.
const PRIVILEGE_WORDS: usize = PAGES_PER_PRIVILEGE * (WORDS + 1);

/// What a hit needs: tags, which are linear page addresses or [`no_page`], the address of the page in this
/// process, and how far that is from the linear one, modulo 2^64. Translated code looks here by itself, see
/// [`super::Tlb::table`].
///
/// Nearly all of it is zero at first, which takes no memory until it is written.
pub(super) struct Table(ZeroedWords);

impl Table {
    pub(super) fn new() -> Self {
        let mut table = Table(ZeroedWords::new(PRIVILEGE_WORDS * Privilege::ALL.len()));
        Privilege::ALL.iter().for_each(|&privilege| table.clear(index(privilege, 0)));
        table
    }

    #[inline(always)]
    pub(super) fn get(&self, index: usize, word: usize) -> u64 {
        self.0[place(index, word)]
    }

    #[inline(always)]
    pub(super) fn set(&mut self, index: usize, word: usize, value: u64) {
        self.0[place(index, word)] = value;
    }

    /// Sets the page of an entry to that at `host` in this process, which is the linear one at `gla`.
    #[inline(always)]
    pub(super) fn set_host(&mut self, index: usize, gla: u64, host: u64) {
        self.set(index, HOST, host);
        self.set(index, DISTANCE, host.wrapping_sub(gla));
    }

    pub(super) fn clear(&mut self, index: usize) {
        [READ, WRITE, EXECUTE].into_iter().for_each(|tag| self.set(index, tag, no_page(index)));
        self.set_host(index, 0, 0);
    }

    /// Where the entries of a privilege begin.
    #[inline(always)]
    pub(super) fn start(&self, privilege: Privilege) -> *const u8 {
        (&raw const self.0[place(index(privilege, 0), 0)]).cast()
    }
}

#[inline(always)]
const fn place(index: usize, word: usize) -> usize {
    let start = index / PAGES_PER_PRIVILEGE * PRIVILEGE_WORDS;
    let number = index % PAGES_PER_PRIVILEGE;
    match word {
        EXECUTE => start + PAGES_PER_PRIVILEGE * WORDS + number,
        _ => start + number * WORDS + word,
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
    /// Offset of what is to be added to a linear address there for the one in this process.
    pub const DISTANCE: usize = super::DISTANCE * 8;
    /// Bytes of a table.
    pub const LEN: usize = super::PRIVILEGE_WORDS * 8;

    /// Offset in the table of the linear address of the page of entry `number`, if instructions can be
    /// fetched from it.
    #[must_use]
    pub const fn execute(number: usize) -> usize {
        super::place(number, super::EXECUTE) * 8
    }
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
