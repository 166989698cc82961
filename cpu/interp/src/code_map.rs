//! Which guest-physical bytes this processor has decoded, so that it notices its own stores to them at
//! once. What all processors have decoded says [`cpu_mem::CodeMarks`].
//!
//! In [granules]: data beside code costs a lookup per store, not a new decode.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use cpu_mem::{AddressHasher, granules};

const PAGE_MASK: u64 = !0xFFF;

/// Decoded granules by page, and the pages whose code was overwritten since the last look.
#[derive(Debug, Default)]
pub struct CodeMap {
    pages: HashMap<u64, u64, BuildHasherDefault<AddressHasher>>,
    overwritten: Vec<u64>,
}

impl CodeMap {
    /// Marks granules of the page around `gpa` as decoded.
    pub fn mark(&mut self, gpa: u64, granules: u64) {
        *self.pages.entry(gpa & PAGE_MASK).or_insert(0) |= granules;
    }

    /// Whether the page around `gpa` holds code.
    #[must_use]
    pub fn has_page(&self, gpa: u64) -> bool {
        self.pages.contains_key(&(gpa & PAGE_MASK))
    }

    /// Whether `len` bytes inside one page hold code.
    #[must_use]
    pub fn hits(&self, gpa: u64, len: usize) -> bool {
        let known = self.pages.get(&(gpa & PAGE_MASK));
        known.is_some_and(|known| known & granules(gpa, len) != 0)
    }

    /// The code of the page around `gpa` is void: the page waits in [`Self::take_overwritten`].
    pub fn overwrite(&mut self, gpa: u64) {
        if self.pages.remove(&(gpa & PAGE_MASK)).is_some() {
            self.overwritten.push(gpa & PAGE_MASK);
        }
    }

    /// A page whose code was overwritten.
    pub fn take_overwritten(&mut self) -> Option<u64> {
        self.overwritten.pop()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.pages.clear();
        self.overwritten.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_store_into_a_decoded_granule_hits() {
        let mut map = CodeMap::default();
        map.mark(0x1040, granules(0x1040, 65));
        map.mark(0x1050, granules(0x1050, 1));
        assert!(!map.hits(0x103F, 1));
        assert!(!map.hits(0x10C0, 8));
        assert!(!map.hits(0x2040, 8));
        assert!(map.hits(0x103F, 2));
        map.overwrite(0x1040);
        assert_eq!(map.take_overwritten(), Some(0x1000));
        assert!(!map.has_page(0x1040));
    }
}
