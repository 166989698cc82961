//! The bytes of a page that code was made from, to be compared with memory later.
//!
//! In granules: of most pages only a part is translated.

use cpu_mem::PAGE_SIZE;

/// Bytes of a granule; a page has as many as there are bits in a word.
const GRANULE: usize = PAGE_SIZE / 64;
/// For so many bytes more memory is made at a time: pages are many.
const MORE: usize = 4 * GRANULE;

/// Some granules of a page.
#[derive(Default)]
pub(crate) struct KeptBytes {
    granules: u64,
    /// One granule's behind the other's.
    bytes: Vec<u8>,
}

impl KeptBytes {
    /// Which granules are kept.
    pub(crate) fn granules(&self) -> u64 {
        self.granules
    }

    /// Keeps `bytes` at this offset of a page, and what else is in their granules as `copy_out` says: the
    /// bytes from an offset on.
    pub(crate) fn keep(
        &mut self,
        offset: usize,
        bytes: &[u8],
        copy_out: impl Fn(usize, &mut [u8]),
    ) {
        for granule in offset / GRANULE..=(offset + bytes.len().max(1) - 1) / GRANULE {
            if self.granules >> granule & 1 == 0 {
                let mut whole = [0; GRANULE];
                copy_out(granule * GRANULE, &mut whole);
                let place = self.place(granule);
                if self.bytes.capacity() == self.bytes.len() {
                    self.bytes.reserve_exact(MORE);
                }
                self.bytes.splice(place..place, whole);
                self.granules |= 1 << granule;
            }
        }
        // What was translated counts, not what memory holds by now.
        let start = self.place(offset / GRANULE) + offset % GRANULE;
        self.bytes[start..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Whether `holds` is true of all that is kept: offsets and bytes.
    pub(crate) fn all(&self, holds: impl Fn(usize, &[u8]) -> bool) -> bool {
        let mut bytes = &self.bytes[..];
        let mut rest = self.granules;
        while rest != 0 {
            let first = rest.trailing_zeros() as usize;
            let run = (rest >> first).trailing_ones() as usize;
            let (these, others) = bytes.split_at(run * GRANULE);
            if !holds(first * GRANULE, these) {
                return false;
            }
            bytes = others;
            rest &= u64::MAX.checked_shl((first + run) as u32).unwrap_or(0);
        }
        true
    }

    /// Where the bytes of a granule are, or would be.
    fn place(&self, granule: usize) -> usize {
        (self.granules & ((1 << granule) - 1)).count_ones() as usize * GRANULE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<u8> {
        (0..PAGE_SIZE).map(|at| (at / 7) as u8).collect()
    }

    fn keep(kept: &mut KeptBytes, page: &[u8], offset: usize, len: usize) {
        kept.keep(offset, &page[offset..offset + len], |at, to| {
            to.copy_from_slice(&page[at..at + to.len()]);
        });
    }

    fn is_in(kept: &KeptBytes, page: &[u8]) -> bool {
        kept.all(|at, bytes| page[at..at + bytes.len()] == *bytes)
    }

    #[test]
    fn each_kept_granule_is_compared_and_no_other() {
        let mut kept = KeptBytes::default();
        let whole = page();
        for (offset, len) in [(4090, 6), (130, 100), (0, 1), (64, 64), (1000, 1)] {
            keep(&mut kept, &whole, offset, len);
        }
        assert!(is_in(&kept, &whole));
        for at in 0..PAGE_SIZE {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            let counts = kept.granules() >> (at / GRANULE) & 1 != 0;
            assert_eq!(is_in(&kept, &changed), !counts, "{at}");
        }
    }

    #[test]
    fn what_was_translated_counts_rather_than_what_memory_holds_then() {
        let mut kept = KeptBytes::default();
        let (before, mut after) = (page(), page());
        after[100] ^= 1;
        kept.keep(90, &before[90..120], |at, to| to.copy_from_slice(&after[at..at + to.len()]));
        assert!(is_in(&kept, &before));
        assert!(!is_in(&kept, &after));
    }

    #[test]
    fn nothing_is_in_every_page() {
        assert!(is_in(&KeptBytes::default(), &page()));
    }
}
