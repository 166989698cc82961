//! What a hit looks at.

use cpu_mem::ZeroedWords;

use super::stack_page;
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
/// Words of a privilege: before its entries is [`stack_page`].
const PRIVILEGE_WORDS: usize = stack_page::WORDS + PAGES_PER_PRIVILEGE * (WORDS + 1);

/// What a hit needs: tags, which are linear page addresses or [`no_page`], the address of the page in this
/// process, and how far that is from the linear one, modulo 2^64. Translated code looks here by itself, see
/// [`super::Tlb::table`].
///
/// Nearly all of it is zero at first, which takes no memory until it is written.
///
/// Law: the stack page of a privilege is that of one of its entries, which allows all that it allows.
pub(super) struct Table(ZeroedWords);

/// The tags of an entry.
pub(super) struct Tags {
    pub read: u64,
    pub write: u64,
    pub execute: u64,
}

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

    /// Sets an entry. Its page is that at `host` in this process, and the linear one at `gla`.
    #[inline(always)]
    pub(super) fn set(&mut self, index: usize, tags: Tags, gla: u64, host: u64) {
        self.0[place(index, READ)] = tags.read;
        self.0[place(index, WRITE)] = tags.write;
        self.0[place(index, EXECUTE)] = tags.execute;
        self.0[place(index, HOST)] = host;
        self.0[place(index, DISTANCE)] = host.wrapping_sub(gla);
        self.forget_stack_page(index);
    }

    pub(super) fn clear(&mut self, index: usize) {
        let none = no_page(index);
        self.set(index, Tags { read: none, write: none, execute: none }, 0, 0);
    }

    pub(super) fn forget_write(&mut self, index: usize) {
        self.0[place(index, WRITE)] = no_page(index);
        self.forget_stack_page(index);
    }

    /// An entry has changed.
    #[inline(always)]
    fn forget_stack_page(&mut self, index: usize) {
        let number = index % PAGES_PER_PRIVILEGE;
        let start = place(index - number, 0) - stack_page::WORDS;
        let words = &mut self.0[start..start + stack_page::WORDS];
        if page_number(words[stack_page::PAGE]) == number {
            words[stack_page::LIMITS].fill(0);
        }
    }

    /// Where the entries of a privilege begin.
    #[inline(always)]
    pub(super) fn start(&self, privilege: Privilege) -> *const u8 {
        (&raw const self.0[place(index(privilege, 0), 0)]).cast()
    }
}

#[inline(always)]
const fn place(index: usize, word: usize) -> usize {
    let start = index / PAGES_PER_PRIVILEGE * PRIVILEGE_WORDS + stack_page::WORDS;
    let number = index % PAGES_PER_PRIVILEGE;
    match word {
        EXECUTE => start + PAGES_PER_PRIVILEGE * WORDS + number,
        _ => start + number * WORDS + word,
    }
}

/// How translated code finds an entry: `gla >> PAGE_SHIFT`, modulo [`layout::ENTRIES`], is its
/// number in [`super::Tlb::table`].
pub mod layout {
    pub use crate::tlb::stack_page::layout as stack_page;

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
    /// Bytes from a table to that of the next privilege.
    pub const LEN: usize = super::PRIVILEGE_WORDS * 8;

    /// Offset in the table of the linear address of the page of entry `number`, if instructions can be
    /// fetched from it.
    #[must_use]
    pub const fn execute(number: usize) -> usize {
        (super::place(number, super::EXECUTE) - super::place(0, 0)) * 8
    }
}

/// A tag for entry `index` that differs from the page of every address that leads there: 0, where it can.
#[inline(always)]
pub(super) const fn no_page(index: usize) -> u64 {
    if index.is_multiple_of(PAGES_PER_PRIVILEGE) { 1 << 12 } else { 0 }
}

#[inline(always)]
pub(super) fn index(privilege: Privilege, gla: u64) -> usize {
    privilege as usize * PAGES_PER_PRIVILEGE + page_number(gla)
}

#[inline(always)]
const fn page_number(gla: u64) -> usize {
    (gla >> 12) as usize % PAGES_PER_PRIVILEGE
}
