//! Where translated code goes on at a linear address, for branches whose target is not known or is
//! in another page.
//!
//! One table for supervisor code and one for user code of each process-context identifier. An entry
//! is as good as the translation of its address: it goes when that is flushed. What it leads to
//! looks itself whether its code is still what it was made from.

use cpu_mem::ZeroedWords;
use cpu_mmu::Flushed;

/// A linear address and the host code for it.
#[derive(Clone, Copy)]
struct JumpEntry {
    rip: u64,
    host: u64,
}

/// Log2 of the bytes of an entry: a linear address, and behind it where its host code is. Translated code
/// looks there, and goes from an entry to its [`other`] by a bit of the address.
pub(crate) const ENTRY_SHIFT: u8 = 4;
/// Offset of the address of host code in an entry.
pub(crate) const HOST_OFFSET: i32 = 8;
/// Words of an entry, and which is that address.
const WORDS: usize = 1 << (ENTRY_SHIFT - 3);
const HOST: usize = HOST_OFFSET as usize / 8;
/// Entries: of a running kernel and its modules some thousand are in use.
pub(crate) const ENTRIES: usize = 32768;
/// Counters of entries by the page of their linear address.
const PAGES: usize = 8192;
/// Log2 of the bytes of a page.
pub(crate) const PAGE_SHIFT: u8 = 12;

/// What leads nowhere: an address that is looked for in neither this entry nor its [`other`]. It is 0 where
/// it can, which takes no memory.
const fn empty(index: usize) -> JumpEntry {
    JumpEntry { rip: if index < 2 { 2 } else { 0 }, host: 0 }
}

/// The table of one privilege.
pub(crate) struct JumpCache {
    entries: Entries,
    /// The entry, if it is one, is of a global page.
    global: Box<[bool]>,
    /// Entries in use, first those that are not of global pages, then the others.
    filled: [Vec<u16>; 2],
    /// How many entries are of pages with such a number.
    pages: Box<[u16; PAGES]>,
    /// Lowest and highest address that has or had an entry since there was none.
    bounds: (u64, u64),
}

/// Number of the entry of an address: the same offset in neighbouring pages leads elsewhere.
pub(crate) const fn index(rip: u64) -> usize {
    (rip ^ rip >> PAGE_SHIFT) as usize % ENTRIES
}

/// Where else an address may be that has this entry: some find two in use together all the time.
pub(crate) const fn other(index: usize) -> usize {
    index ^ 1
}

const fn page_number(rip: u64) -> usize {
    (rip >> PAGE_SHIFT ^ rip >> 25) as usize % PAGES
}

/// All entries.
struct Entries(ZeroedWords);

impl Entries {
    fn new() -> Self {
        let mut entries = Entries(ZeroedWords::new(WORDS * ENTRIES));
        (0..2).for_each(|index| entries.set(index, empty(index)));
        entries
    }

    fn get(&self, index: usize) -> JumpEntry {
        let at = WORDS * index;
        JumpEntry { rip: self.0[at], host: self.0[at + HOST] }
    }

    fn set(&mut self, index: usize, entry: JumpEntry) {
        let at = WORDS * index;
        self.0[at] = entry.rip;
        self.0[at + HOST] = entry.host;
    }
}

/// Those of no entry.
const NO_BOUNDS: (u64, u64) = (u64::MAX, 0);

impl JumpCache {
    pub(crate) fn new() -> Self {
        JumpCache {
            entries: Entries::new(),
            global: vec![false; ENTRIES].into(),
            filled: [const { Vec::new() }; 2],
            pages: vec![0; PAGES].try_into().unwrap_or_else(|_| Box::new([0; PAGES])),
            bounds: NO_BOUNDS,
        }
    }

    /// Where translated code finds the entries.
    pub(crate) fn entries(&self) -> *const u64 {
        self.entries.0.as_ptr()
    }

    /// The host code at an address, if it is known.
    #[inline]
    pub(crate) fn find(&self, rip: u64) -> Option<u64> {
        let index = index(rip);
        let entries = [self.entries.get(index), self.entries.get(other(index))];
        entries.into_iter().find(|entry| entry.rip == rip).map(|entry| entry.host)
    }

    /// Remembers where an address, maybe of a global page, leads.
    pub(crate) fn insert(&mut self, rip: u64, host: u64, global: bool) {
        let (first, second) = (index(rip), other(index(rip)));
        let before = self.entries.get(first);
        if self.entries.get(second).rip == rip {
            self.put(second, rip, host, global);
            return;
        }
        // What has made room for another once goes: else it could stay for ever, in the way of two.
        if before.host != 0 && before.rip != rip && index(before.rip) == first {
            self.put(second, before.rip, before.host, self.global[first]);
        }
        self.put(first, rip, host, global);
    }

    fn put(&mut self, index: usize, rip: u64, host: u64, global: bool) {
        let before = self.entries.get(index);
        let known = before.host != 0;
        if known && self.global[index] != global {
            self.filled[usize::from(!global)].retain(|&other| usize::from(other) != index);
        }
        if !known || self.global[index] != global {
            self.filled[usize::from(global)].push(index as u16);
        }
        self.entries.set(index, JumpEntry { rip, host });
        self.global[index] = global;
        if known {
            self.pages[page_number(before.rip)] -= 1;
        }
        self.pages[page_number(rip)] += 1;
        self.bounds = (self.bounds.0.min(rip), self.bounds.1.max(rip));
    }

    /// There may be entries of addresses in the page of this one.
    #[inline]
    pub(crate) fn may_have_page(&self, rip: u64) -> bool {
        self.pages[page_number(rip)] != 0
    }

    /// Forgets what can no longer be fetched as before.
    pub(crate) fn flush(&mut self, flushed: &Flushed) {
        if flushed.all {
            self.clear();
            return;
        }
        if flushed.non_global {
            self.leave_address_space();
        }
        self.forget(&flushed.ranges);
    }

    /// Forgets what is between these linear addresses (first, last).
    fn forget(&mut self, ranges: &[(u64, u64)]) {
        for &(first, last) in ranges {
            if self.may_have(first, last) {
                self.retain(false, |rip| !(first..=last).contains(&rip));
                self.retain(true, |rip| !(first..=last).contains(&rip));
            }
        }
    }

    /// As [`Self::forget`], of global pages alone.
    pub(crate) fn forget_global(&mut self, ranges: &[(u64, u64)]) {
        if !self.filled[1].is_empty() {
            for &(first, last) in ranges {
                self.retain(true, |rip| !(first..=last).contains(&rip));
            }
        }
    }

    /// There may be entries of addresses between these.
    fn may_have(&self, first: u64, last: u64) -> bool {
        let one_page = first >> PAGE_SHIFT == last >> PAGE_SHIFT;
        let apart = last < self.bounds.0 || first > self.bounds.1;
        !apart && (!one_page || self.may_have_page(first))
    }

    /// Forgets what is not of global pages.
    pub(crate) fn leave_address_space(&mut self) {
        self.retain(false, |_| false);
    }

    pub(crate) fn clear(&mut self) {
        for global in [false, true] {
            self.retain(global, |_| false);
        }
    }

    /// Keeps entries of global pages, or of the others, by their address.
    fn retain(&mut self, global: bool, keep: impl Fn(u64) -> bool) {
        let Self { entries, filled, pages, .. } = self;
        filled[usize::from(global)].retain(|&index| {
            let index = usize::from(index);
            let rip = entries.get(index).rip;
            let kept = keep(rip);
            if !kept {
                pages[page_number(rip)] -= 1;
                entries.set(index, empty(index));
            }
            kept
        });
        if self.filled.iter().all(Vec::is_empty) {
            self.bounds = NO_BOUNDS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> JumpCache {
        let mut jumps = JumpCache::new();
        jumps.insert(0x1000, 1, false);
        jumps.insert(0x2345, 2, true);
        jumps.insert(0x7FFF_F000_0000, 3, false);
        jumps
    }

    fn found(jumps: &JumpCache) -> [Option<u64>; 3] {
        [0x1000, 0x2345, 0x7FFF_F000_0000].map(|rip| jumps.find(rip))
    }

    #[test]
    fn a_flush_of_what_is_not_global_keeps_the_rest() {
        let mut jumps = filled();
        jumps.flush(&Flushed { non_global: true, ..Flushed::default() });
        assert_eq!(found(&jumps), [None, Some(2), None]);
    }

    #[test]
    fn a_flush_of_a_page_keeps_the_others() {
        let mut jumps = filled();
        jumps.flush(&Flushed {
            ranges: vec![(0x2000, 0x2FFF), (0x3000, 0x3FFF)],
            ..Flushed::default()
        });
        assert_eq!(found(&jumps), [Some(1), None, Some(3)]);
        jumps.flush(&Flushed { ranges: vec![(0, (1 << 30) - 1)], ..Flushed::default() });
        assert_eq!(found(&jumps), [None, None, Some(3)]);
    }

    #[test]
    fn what_was_cleared_can_come_again() {
        let mut jumps = filled();
        jumps.insert(0x1000, 4, false);
        assert_eq!(found(&jumps), [Some(4), Some(2), Some(3)]);
        jumps.clear();
        assert_eq!(found(&jumps), [None; 3]);
        jumps.insert(0x1000, 5, false);
        assert_eq!(jumps.find(0x1000), Some(5));
    }

    #[test]
    fn an_entry_may_take_the_place_of_a_global_one() {
        let mut jumps = filled();
        jumps.insert(0x2345, 6, false);
        jumps.insert(0x1000, 7, true);
        jumps.leave_address_space();
        assert_eq!(found(&jumps), [Some(7), None, None]);
        jumps.clear();
        assert_eq!(found(&jumps), [None; 3]);
    }

    #[test]
    fn two_addresses_of_one_entry_are_known() {
        let mut jumps = JumpCache::new();
        let rips = [0x1000, 0x1000 ^ 0x8008, 0x1000 ^ 0x1_0010];
        assert_eq!(rips.map(index), [index(rips[0]); 3]);
        for (rip, host) in rips.into_iter().zip(1..) {
            jumps.insert(rip, host, host == 1);
        }
        assert_eq!(rips.map(|rip| jumps.find(rip)), [None, Some(2), Some(3)]);
        jumps.insert(rips[1], 4, false);
        jumps.insert(rips[0], 5, true);
        assert_eq!(rips.map(|rip| jumps.find(rip)), [Some(5), None, Some(3)]);
        jumps.leave_address_space();
        assert_eq!(rips.map(|rip| jumps.find(rip)), [Some(5), None, None]);
        jumps.clear();
        assert_eq!(rips.map(|rip| jumps.find(rip)), [None; 3]);
    }

    #[test]
    fn what_is_not_used_any_more_makes_room_for_two() {
        let mut jumps = JumpCache::new();
        let [unused, first, second] = [0x1000, 0x1000 ^ 0x8008, 0x1001];
        assert_eq!([index(first), index(second)], [index(unused), other(index(unused))]);
        for rip in [unused, second, first, second] {
            jumps.insert(rip, rip, false);
        }
        assert_eq!([first, second].map(|rip| jumps.find(rip)), [Some(first), Some(second)]);
    }

    #[test]
    fn pages_are_flushed_whose_entries_have_moved() {
        let mut jumps = JumpCache::new();
        let rips = [0x1000, 0x1000 ^ 0x8008, 0x1000 ^ 0x1_0010];
        for rip in rips.into_iter().chain([rips[1]]) {
            jumps.insert(rip, rip, false);
        }
        for rip in rips {
            let page = rip & !0xFFF;
            jumps.flush(&Flushed { ranges: vec![(page, page | 0xFFF)], ..Flushed::default() });
            assert_eq!(jumps.find(rip), None, "{rip:#x}");
        }
        assert!(jumps.pages.iter().all(|&entries| entries == 0));
    }

    #[test]
    fn entries_of_global_pages_are_forgotten_apart() {
        let mut jumps = filled();
        jumps.forget_global(&[(0, u64::MAX)]);
        assert_eq!(found(&jumps), [Some(1), None, Some(3)]);
    }

    #[test]
    fn translated_code_finds_the_other_entry_by_a_bit_of_its_address() {
        let jumps = JumpCache::new();
        for index in [0, 1, 2, ENTRIES - 1] {
            let at = |index: usize| jumps.entries().wrapping_add(WORDS * index).addr();
            assert_eq!(at(index) ^ 1 << ENTRY_SHIFT, at(other(index)));
        }
    }

    #[test]
    fn no_address_leads_to_an_empty_entry() {
        let jumps = JumpCache::new();
        for rip in (0..0x4_0000).chain([1 << 63, u64::MAX]) {
            assert_eq!(jumps.find(rip), None, "{rip:#x}");
        }
    }
}
