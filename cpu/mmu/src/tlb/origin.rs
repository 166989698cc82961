//! What a flush needs to know of an entry.

use crate::PageSize;
use crate::tlb::table::PAGE_MASK;

/// What a flush needs to know of an entry: two words, zero at first.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub gla: u64,
    pub gpa: u64,
    pub page_size: PageSize,
    pub global: bool,
    /// The bit of its protection key, if it has one.
    pub key_bit: u16,
}

/// There is an origin in the two words; the first one's other bits are the linear address.
const KNOWN: u64 = 1;
/// The entry is in the list of those that are not global, maybe emptied since, or global.
pub(super) const IN_LOCAL: u64 = 2;
/// Likewise, in the list of global ones.
pub(super) const IN_GLOBAL: u64 = 1 << 10;
const LISTED: u64 = IN_LOCAL | IN_GLOBAL;
const GLOBAL: u64 = 4;
const SIZE_SHIFT: u32 = 3;
const KEY_SHIFT: u32 = 5;
/// There is a key, in the bits above.
const HAS_KEY: u64 = 1 << KEY_SHIFT;

impl Origin {
    /// What the words of an entry say.
    pub(super) fn from_words([word, gpa]: [u64; 2]) -> Option<Self> {
        let key_bit = if word & HAS_KEY != 0 { 1 << (word >> (KEY_SHIFT + 1) & 15) } else { 0 };
        (word & KNOWN != 0).then_some(Origin {
            gla: word & PAGE_MASK,
            gpa,
            page_size: SIZES[(word >> SIZE_SHIFT) as usize & 3],
            global: word & GLOBAL != 0,
            key_bit,
        })
    }

    /// The words of an entry that is in the lists which `listed` names.
    pub(super) fn words(self, listed: u64) -> [u64; 2] {
        let size = SIZES.iter().position(|&size| size == self.page_size).unwrap_or(0);
        let key = match self.key_bit {
            0 => 0,
            bit => HAS_KEY | u64::from(bit.trailing_zeros()) << (KEY_SHIFT + 1),
        };
        let global = if self.global { GLOBAL } else { 0 };
        let word = self.gla | KNOWN | global | (size as u64) << SIZE_SHIFT | key;
        [word | listed & LISTED, self.gpa]
    }

    /// The words of an entry that has no origin any more.
    pub(super) fn no_words(listed: u64) -> [u64; 2] {
        [listed & LISTED, 0]
    }
}

/// By number.
const SIZES: [PageSize; 4] =
    [PageSize::Size4K, PageSize::Size2M, PageSize::Size4M, PageSize::Size1G];
