//! What leaves the cache because other processors say so.

use super::origin::Origin;

/// Of which address spaces the entries of a set are, but for global pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// Of none.
    Empty,
    /// Of that whose paging structures begin there.
    Of(u64),
    /// Of several.
    Mixed,
}

/// What another processor has this one forget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forget {
    /// Only of the address space whose paging structures begin there, and global pages; None: of each.
    pub space: Option<u64>,
    /// Only of pages that these linear addresses (first, last) are in; None: all.
    pub pages: Option<Vec<(u64, u64)>>,
    /// Global pages stay.
    pub keep_global: bool,
}

impl Forget {
    /// Everything.
    #[must_use]
    pub fn all() -> Forget {
        Forget::default()
    }

    pub(super) fn takes_space(&self, space: Space) -> bool {
        // Guests with a second root for user code name the first one: the two are neighbours, for
        // they are one aligned pair of pages.
        const PAIR: u64 = !0x1FFF;
        match (self.space, space) {
            (Some(_), Space::Empty) => false,
            (Some(wanted), Space::Of(space)) => (wanted ^ space) & PAIR == 0,
            (None, _) | (_, Space::Mixed) => true,
        }
    }

    pub(super) fn takes_page(&self, origin: &Origin) -> bool {
        let first = origin.gla & !(origin.page_size.bytes() - 1);
        let last = first | (origin.page_size.bytes() - 1);
        let overlaps = |&(from, to): &(u64, u64)| from <= last && first <= to;
        self.pages.as_ref().is_none_or(|pages| pages.iter().any(overlaps))
    }
}
