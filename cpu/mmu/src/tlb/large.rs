//! Where the larger pages are whose pieces may be cached.

/// Ranges that are told apart. Linux has its direct map, its own code, and few more.
const MAX_RANGES: usize = 16;

/// Linear addresses that pieces of larger pages came from, and maybe more.
#[derive(Default)]
pub(super) struct LargePages {
    /// (first, last), ascending; no two touch.
    ranges: Vec<(u64, u64)>,
}

impl LargePages {
    /// Adds the page of `size_bytes`, a power of two, around `gla`.
    pub(super) fn add(&mut self, gla: u64, size_bytes: u64) {
        let mut first = gla & !(size_bytes - 1);
        let mut last = first | (size_bytes - 1);
        if self.ranges.iter().any(|range| range.0 <= first && last <= range.1) {
            return;
        }
        let touches = |range: &(u64, u64)| {
            range.0 <= last.saturating_add(1) && first <= range.1.saturating_add(1)
        };
        let (near, far) = self.ranges.iter().copied().partition::<Vec<_>, _>(touches);
        self.ranges = far;
        if self.ranges.len() == MAX_RANGES {
            self.ranges.drain(..).for_each(|range| {
                (first, last) = (first.min(range.0), last.max(range.1));
            });
        }
        for range in near {
            (first, last) = (first.min(range.0), last.max(range.1));
        }
        let at = self.ranges.partition_point(|range| range.0 < first);
        self.ranges.insert(at, (first, last));
    }

    /// There may be one around `gla`.
    pub(super) fn contain(&self, gla: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < gla);
        self.ranges.get(at).is_some_and(|range| range.0 <= gla)
    }

    /// None is cached.
    pub(super) fn clear(&mut self) {
        self.ranges.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn of(pages: &[u64]) -> LargePages {
        let mut large = LargePages::default();
        pages.iter().for_each(|&page| large.add(page * 2 * MIB + 4096, 2 * MIB));
        large
    }

    #[test]
    fn neighbours_are_one_range_in_whatever_order_they_come() {
        for pages in [[3, 4, 5], [5, 4, 3], [3, 5, 4]] {
            assert_eq!(of(&pages).ranges, [(6 * MIB, 12 * MIB - 1)]);
        }
    }

    #[test]
    fn what_is_between_ranges_is_not_in_them() {
        let large = of(&[8, 1]);
        let inside = [2 * MIB, 4 * MIB - 1, 16 * MIB, 18 * MIB - 1];
        let outside = [0, 2 * MIB - 1, 4 * MIB, 16 * MIB - 1, 18 * MIB];
        assert!(inside.into_iter().all(|gla| large.contain(gla)));
        assert!(!outside.into_iter().any(|gla| large.contain(gla)));
    }

    #[test]
    fn too_many_become_one_that_has_them_all() {
        let pages: Vec<u64> = (0..40).map(|number| 3 * number).collect();
        let large = of(&pages);
        assert!(pages.iter().all(|page| large.contain(page * 2 * MIB)));
        assert!(large.ranges.len() <= MAX_RANGES);
    }

    #[test]
    fn the_last_page_of_the_address_space_has_a_range() {
        let mut large = LargePages::default();
        large.add(u64::MAX, 1 << 30);
        large.add(u64::MAX - (1 << 30), 1 << 30);
        assert_eq!(large.ranges, [(u64::MAX - (1 << 31) + 1, u64::MAX)]);
    }
}
