//! The page that the stack is in, for translated code: half of all accesses are there.
//!
//! A few words before the entries of a privilege say of one of them what a look needs, so that it needs
//! no index. The word that the offset in the page is compared with says both that such an access is
//! allowed and that it ends in the page. It is translated code that fills them in, from an entry of the
//! table, and [`super::table::Table`] that empties them, when this one changes.

use std::ops::Range;

use cpu_mem::PAGE_SIZE;

/// How long the accesses are that have a limit: up to so many bytes.
const LENS: [usize; 5] = [8, 32, 64, 128, 256];
/// Words before the entries, and which is which.
pub(super) const WORDS: usize = 2 + 2 * LENS.len();
pub(super) const PAGE: usize = 0;
const DISTANCE: usize = 1;
const READ_LIMITS: usize = 2;
const WRITE_LIMITS: usize = READ_LIMITS + LENS.len();
/// Zero where there is no page.
pub(super) const LIMITS: Range<usize> = READ_LIMITS..WORDS;

/// Where the words are for translated code, in bytes from [`super::Tlb::table`].
pub mod layout {
    use super::{LENS, PAGE_SIZE, WORDS};

    const fn offset(word: usize) -> i32 {
        (word as i32 - WORDS as i32) * 8
    }

    /// The linear address of the page.
    pub const PAGE: i32 = offset(super::PAGE);
    /// What is to be added to a linear address there for the one in this process.
    pub const DISTANCE: i32 = offset(super::DISTANCE);
    /// The limits for loads, in ascending order of lengths.
    pub const READ_LIMITS: i32 = offset(super::READ_LIMITS);
    /// Those for stores.
    pub const WRITE_LIMITS: i32 = offset(super::WRITE_LIMITS);
    /// What they are where such an access is allowed; 0 where it is not.
    pub const LIMITS: [usize; LENS.len()] = {
        let mut limits = LENS;
        let mut at = 0;
        while at < LENS.len() {
            limits[at] = PAGE_SIZE - LENS[at] + 1;
            at += 1;
        }
        limits
    };

    /// Where the limit for accesses of `len` bytes is, if there is one: what is at an offset below it may
    /// be accessed.
    #[must_use]
    pub fn limit(len: usize, write: bool) -> Option<i32> {
        let number = LENS.iter().position(|&most| len <= most)?;
        Some(if write { WRITE_LIMITS } else { READ_LIMITS } + 8 * number as i32)
    }
}
