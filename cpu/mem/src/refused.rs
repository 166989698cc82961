//! Guest-physical ranges that no access may reach, though no page is there to take a device's place.
//!
//! Asked only where there is no page, so that a look-up in a locked table costs nothing that counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

/// Disjoint ranges, by start; none touches the next.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    any: AtomicBool,
    ends: RwLock<BTreeMap<u64, u64>>,
}

impl Refused {
    pub(crate) fn set(&self, start: u64, end: u64, refused: bool) {
        let mut ends = self.ends.write().unwrap_or_else(PoisonError::into_inner);
        let (mut first, mut last) = (start, end);
        let touched = ends.range(..=end).rev().take_while(|(_, to)| **to >= start);
        for (from, to) in touched.map(|(from, to)| (*from, *to)).collect::<Vec<_>>() {
            ends.remove(&from);
            first = first.min(from);
            last = last.max(to);
        }
        if refused {
            ends.insert(first, last);
        } else {
            if first < start {
                ends.insert(first, start);
            }
            if end < last {
                ends.insert(end, last);
            }
        }
        self.any.store(!ends.is_empty(), Ordering::Release);
    }

    #[inline]
    pub(crate) fn has(&self, gpa: u64) -> bool {
        self.any.load(Ordering::Acquire) && self.is_inside(gpa)
    }

    fn is_inside(&self, gpa: u64) -> bool {
        let ends = self.ends.read().unwrap_or_else(PoisonError::into_inner);
        ends.range(..=gpa).next_back().is_some_and(|(_, end)| gpa < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(refused: &Refused) -> Vec<(u64, u64)> {
        refused.ends.read().unwrap().iter().map(|(start, end)| (*start, *end)).collect()
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let refused = Refused::default();
        refused.set(0x1000, 0x2000, true);
        refused.set(0x3000, 0x4000, true);
        refused.set(0x2000, 0x3000, true);
        assert_eq!(ranges(&refused), [(0x1000, 0x4000)]);
        assert!(refused.has(0x1000) && refused.has(0x3fff));
        assert!(!refused.has(0xfff) && !refused.has(0x4000));
    }

    #[test]
    fn a_part_is_taken_out() {
        let refused = Refused::default();
        refused.set(0, 0x10000, true);
        refused.set(0x4000, 0x5000, false);
        assert_eq!(ranges(&refused), [(0, 0x4000), (0x5000, 0x10000)]);
        refused.set(0, u64::MAX, false);
        assert!(!refused.has(0) && !refused.any.load(Ordering::Relaxed));
    }

    #[test]
    fn every_page_is_as_it_was_set_last() {
        let refused = Refused::default();
        let mut model = [false; 64];
        let mut seed = 1_u64;
        for _ in 0..2000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (start, len, on) = (seed >> 58, 1 + (seed >> 52) % 8, seed >> 40 & 1 != 0);
            let end = (start + len).min(64);
            refused.set(start, end, on);
            model[start as usize..end as usize].fill(on);
            assert!((0..64).all(|page| refused.has(page) == model[page as usize]));
            let all = ranges(&refused);
            assert!(all.windows(2).all(|pair| pair[0].1 < pair[1].0), "{all:?}");
        }
    }
}
