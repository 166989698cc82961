//! In which epoch each page of code was compared with memory last, where translated code looks.
//!
//! Close together: who goes from page to page looks at one each time.

use std::sync::atomic::{AtomicU64, Ordering};

/// No epoch.
const NEVER: u64 = u64::MAX;
/// Pages whose epochs are allocated together.
const CHUNK: usize = 512;

/// Which page's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

impl Place {
    /// How many came before.
    pub(crate) fn number(self) -> u32 {
        self.0 as u32
    }
}

/// The epochs. Each stays where it is until all are forgotten.
#[derive(Default)]
pub(crate) struct Seen {
    chunks: Vec<Box<[AtomicU64; CHUNK]>>,
    used: usize,
}

impl Seen {
    /// One more page, which was never compared.
    pub(crate) fn add(&mut self) -> Place {
        if self.used == self.chunks.len() * CHUNK {
            self.chunks.push(Box::new([const { AtomicU64::new(NEVER) }; CHUNK]));
        }
        self.used += 1;
        Place(self.used - 1)
    }

    /// Whether the page was compared in this epoch.
    pub(crate) fn is(&self, place: Place, epoch: u32) -> bool {
        self.word(place).load(Ordering::Relaxed) == u64::from(epoch)
    }

    /// The page is as it was in this epoch.
    pub(crate) fn set(&self, place: Place, epoch: u32) {
        self.word(place).store(epoch.into(), Ordering::Relaxed);
    }

    /// Nobody is to use the page's code any more.
    pub(crate) fn never(&self, place: Place) {
        self.word(place).store(NEVER, Ordering::Relaxed);
    }

    /// Where translated code finds it, until [`Self::clear`].
    pub(crate) fn address(&self, place: Place) -> u64 {
        (&raw const *self.word(place)).expose_provenance() as u64
    }

    /// Bytes of memory.
    pub(crate) fn footprint(&self) -> usize {
        self.chunks.len() * size_of::<[AtomicU64; CHUNK]>()
    }

    /// Forgets all. The caller forgets code.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn word(&self, Place(number): Place) -> &AtomicU64 {
        &self.chunks[number / CHUNK][number % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_has_its_own_and_keeps_its_place() {
        let mut seen = Seen::default();
        let places: Vec<_> = (0..2 * CHUNK).map(|_| seen.add()).collect();
        let addresses: Vec<_> = places.iter().map(|&place| seen.address(place)).collect();
        for (epoch, &place) in (0..).zip(&places) {
            assert!(!seen.is(place, epoch));
            seen.set(place, epoch);
        }
        seen.never(places[1]);
        for (epoch, &place) in (0..).zip(&places) {
            assert_eq!(seen.is(place, epoch), epoch != 1);
        }
        seen.add();
        assert!(places.iter().map(|&place| seen.address(place)).eq(addresses));
    }
}
