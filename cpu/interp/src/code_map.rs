//! Which guest-physical bytes have been decoded, so that a store to them is noticed.
//!
//! Granules of 64 bytes: data beside code costs a lookup per store, not a new decode.

use std::collections::HashMap;

const GRANULE_SHIFT: u32 = 6;
const PAGE_MASK: u64 = !0xFFF;

/// Decoded granules by page, and the pages whose code was overwritten since the last look.
#[derive(Debug, Default)]
pub struct CodeMap {
    pages: HashMap<u64, u64>,
    overwritten: Vec<u64>,
}

impl CodeMap {
    /// Marks `len` bytes of one page as decoded. True if the page held no code before: its cached
    /// write rights have to go.
    pub fn mark(&mut self, gpa: u64, len: usize) -> bool {
        let granules = granules(gpa, len);
        let known = self.pages.entry(gpa & PAGE_MASK).or_insert(0);
        let first = *known == 0;
        *known |= granules;
        first
    }

    /// Whether the page around `gpa` holds code.
    #[must_use]
    pub fn has_page(&self, gpa: u64) -> bool {
        self.pages.contains_key(&(gpa & PAGE_MASK))
    }

    /// A store of `len` bytes inside one page. True if it hit code; the page is then forgotten and
    /// waits in [`Self::take_overwritten`].
    pub fn store(&mut self, gpa: u64, len: usize) -> bool {
        let page = gpa & PAGE_MASK;
        let hit = self.pages.get(&page).is_some_and(|known| known & granules(gpa, len) != 0);
        if hit {
            self.pages.remove(&page);
            self.overwritten.push(page);
        }
        hit
    }

    /// A page whose code was overwritten.
    pub fn take_overwritten(&mut self) -> Option<u64> {
        self.overwritten.pop()
    }

    /// Forgets one page.
    pub fn forget(&mut self, page: u64) {
        self.pages.remove(&page);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.pages.clear();
        self.overwritten.clear();
    }
}

fn granules(gpa: u64, len: usize) -> u64 {
    let first = (gpa & !PAGE_MASK) >> GRANULE_SHIFT;
    let last = ((gpa & !PAGE_MASK) + len.max(1) as u64 - 1) >> GRANULE_SHIFT;
    let last = last.min(63);
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_store_into_a_decoded_granule_hits() {
        let mut map = CodeMap::default();
        assert!(map.mark(0x1040, 65));
        assert!(!map.mark(0x1050, 1));
        assert!(!map.store(0x103F, 1));
        assert!(!map.store(0x10C0, 8));
        assert!(!map.store(0x2040, 8));
        assert!(map.store(0x103F, 2));
        assert_eq!(map.take_overwritten(), Some(0x1000));
        assert!(!map.has_page(0x1040));
    }

    #[test]
    fn granules_reach_the_page_end() {
        assert_eq!(granules(0xFFF, 1), 1 << 63);
        assert_eq!(granules(0, 4096), u64::MAX);
    }
}
