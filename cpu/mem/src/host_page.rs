//! Access to one page of guest memory in this process.
//!
//! Bounds are proven once, on the offset; after that a load or store of up to eight bytes is one
//! `mov`. Misaligned accesses are allowed as on the processor, but must not leave the page: the
//! caller splits those, since the next guest page may lie anywhere.
#![allow(unsafe_code)]

use std::num::NonZeroU64;
use std::ptr;

use crate::phys_map::LOG_BITS;
use crate::{PAGE_SIZE, PageFlags, Word, racy};

/// Low bits of an entry, below the page-aligned host address.
const FLAG_BITS: u64 = PAGE_SIZE as u64 - 1;

/// A guest page behind a host address, with the rights of the guest to it.
///
/// A copy is valid until the unmapping of its guest-physical page has been acknowledged (see
/// [`crate::PhysMap::map_page`]); holders drop it when they acknowledge the flush.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostPage(NonZeroU64);

impl HostPage {
    /// From an entry of the map: host address in bits 63:12, rights in the low bits. Log bits are
    /// dropped.
    ///
    /// Only for the map, whose entries carry the promise made to `map_page`, and for what a page was made
    /// into.
    #[inline(always)]
    pub(crate) fn from_entry(entry: u64) -> Option<Self> {
        NonZeroU64::new(entry & !LOG_BITS).map(Self)
    }

    /// What [`Self::from_entry`] makes this page of.
    pub(crate) fn entry(self) -> u64 {
        self.0.get()
    }

    /// The rights that the map grants on this page.
    #[inline(always)]
    pub fn flags(self) -> PageFlags {
        PageFlags::from_bits(self.0.get() as u8)
    }

    /// Its address in this process, a multiple of the page size. Code that goes there by itself
    /// keeps the promises of [`Self::load`] and [`Self::store`].
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0.get() & !FLAG_BITS
    }

    /// The same page with only those rights that are also in `flags`.
    #[inline]
    pub fn restrict(self, flags: PageFlags) -> Self {
        let dropped = u64::from(PageFlags::ALL.bits() & !flags.bits());
        // The host address is not null, so the entry stays nonzero; `unwrap_or` is never taken.
        Self(NonZeroU64::new(self.0.get() & !dropped).unwrap_or(self.0))
    }

    /// Whether both are the same host page, whatever their rights.
    #[inline]
    pub fn same_memory(self, other: Self) -> bool {
        (self.0.get() ^ other.0.get()) & !FLAG_BITS == 0
    }

    /// Pointer to `len` bytes at `offset`, all inside the page.
    ///
    /// # Panics
    /// When the bytes reach beyond the page.
    #[inline(always)]
    pub(crate) fn at(self, offset: usize, len: usize) -> *mut u8 {
        if !fits(offset, len) {
            leaves_page(offset, len);
        }
        let address = (self.0.get() & !FLAG_BITS) as usize + offset;
        ptr::with_exposed_provenance_mut(address)
    }

    /// Loads a little-endian value.
    ///
    /// # Panics
    /// When the value reaches beyond the page.
    #[inline(always)]
    pub fn load<T: Word>(self, offset: usize) -> T {
        let pointer = self.at(offset, T::SIZE);
        // SAFETY: `at` proved the bytes inside the page, which `map_page` promised stays mapped;
        // nothing here hands out a reference to it.
        unsafe { racy::load(pointer) }
    }

    /// Stores a little-endian value. The page must have [`PageFlags::WRITE`], else the host may
    /// fault.
    ///
    /// # Panics
    /// When the value reaches beyond the page.
    #[inline(always)]
    pub fn store<T: Word>(self, offset: usize, value: T) {
        debug_assert!(self.flags().contains(PageFlags::WRITE), "store to a read-only page");
        let pointer = self.at(offset, T::SIZE);
        // SAFETY: as in `load`; `WRITE` says that the mapping is writable.
        unsafe { racy::store(pointer, value) }
    }

    /// [`load`](Self::load), or `None` when the value reaches beyond the page.
    #[inline(always)]
    pub fn get<T: Word>(self, offset: usize) -> Option<T> {
        fits(offset, T::SIZE).then(|| self.load(offset))
    }

    /// [`store`](Self::store), or `None` (and nothing stored) when the value reaches beyond the
    /// page.
    #[inline(always)]
    pub fn put<T: Word>(self, offset: usize, value: T) -> Option<()> {
        fits(offset, T::SIZE).then(|| self.store(offset, value))
    }

    /// Copies guest memory from `offset` on into `to`, in ascending order.
    ///
    /// Others may write meanwhile; aligned groups of eight bytes are each read in one piece.
    ///
    /// # Panics
    /// When the bytes reach beyond the page.
    pub fn copy_out(self, offset: usize, to: &mut [u8]) {
        if !fits(offset, to.len()) {
            leaves_page(offset, to.len());
        }
        let (head, body) = to.split_at_mut(bytes_to_alignment(offset).min(to.len()));
        let mut from = offset;
        for byte in head {
            *byte = self.load(from);
            from += 1;
        }
        let mut groups = body.chunks_exact_mut(8);
        for group in &mut groups {
            group.copy_from_slice(&self.load::<u64>(from).to_le_bytes());
            from += 8;
        }
        for byte in groups.into_remainder() {
            *byte = self.load(from);
            from += 1;
        }
    }

    /// Whether guest memory from `offset` on, a multiple of eight, holds `bytes`, a multiple of eight of
    /// them. Others may write meanwhile; aligned groups of eight bytes are each read in one piece.
    ///
    /// # Panics
    /// When the bytes reach beyond the page, or are no whole groups.
    #[must_use]
    pub fn holds(self, offset: usize, bytes: &[u8]) -> bool {
        let whole = bytes.len().is_multiple_of(8) && offset.is_multiple_of(8);
        assert!(whole, "{} bytes at {offset}", bytes.len());
        let pointer = self.at(offset, bytes.len());
        // SAFETY: `at` proved the bytes inside the page, which `map_page` promised stays mapped.
        unsafe { !racy::differs(pointer, bytes) }
    }

    /// As [`holds`](Self::holds), of any bytes.
    ///
    /// # Panics
    /// When the bytes reach beyond the page.
    #[must_use]
    pub fn has(self, offset: usize, bytes: &[u8]) -> bool {
        let mut at = offset;
        bytes.chunks(64).all(|chunk| {
            let mut now = [0; 64];
            let now = &mut now[..chunk.len()];
            self.copy_out(at, now);
            at += chunk.len();
            now == chunk
        })
    }

    /// Copies `from` into guest memory from `offset` on, in ascending order.
    ///
    /// Others may read and write meanwhile; aligned groups of eight bytes are each written in one
    /// piece. The page must have [`PageFlags::WRITE`].
    ///
    /// # Panics
    /// When the bytes reach beyond the page.
    pub fn copy_in(self, offset: usize, from: &[u8]) {
        if !fits(offset, from.len()) {
            leaves_page(offset, from.len());
        }
        let (head, body) = from.split_at(bytes_to_alignment(offset).min(from.len()));
        let mut to = offset;
        for &byte in head {
            self.store(to, byte);
            to += 1;
        }
        let (groups, tail) = body.as_chunks::<8>();
        for group in groups {
            self.store(to, u64::from_le_bytes(*group));
            to += 8;
        }
        for &byte in tail {
            self.store(to, byte);
            to += 1;
        }
    }
}

impl std::fmt::Debug for HostPage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.0.get() & !FLAG_BITS;
        write!(formatter, "HostPage({address:#x}, {:?})", self.flags())
    }
}

#[inline(always)]
fn fits(offset: usize, len: usize) -> bool {
    len <= PAGE_SIZE && offset <= PAGE_SIZE - len
}

/// Out of line, so that accesses stay short.
#[cold]
#[inline(never)]
fn leaves_page(offset: usize, len: usize) -> ! {
    panic!("access of {len} bytes at {offset:#x} leaves the page")
}

fn bytes_to_alignment(offset: usize) -> usize {
    offset.wrapping_neg() % 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phys_map::tests::page_of;

    #[test]
    fn every_width_loads_what_was_stored_at_every_alignment() {
        let page = page_of(PageFlags::ALL);
        for offset in 0..32 {
            page.store(offset, 0xa5_u8);
            assert_eq!(page.load::<u8>(offset), 0xa5);
            page.store(offset, 0xbeef_u16);
            assert_eq!(page.load::<u16>(offset), 0xbeef);
            page.store(offset, 0xdead_beef_u32);
            assert_eq!(page.load::<u32>(offset), 0xdead_beef);
            page.store(offset, 0x0123_4567_89ab_cdef_u64);
            assert_eq!(page.load::<u64>(offset), 0x0123_4567_89ab_cdef);
            page.store(offset, u128::MAX / 3);
            assert_eq!(page.load::<u128>(offset), u128::MAX / 3);
        }
    }

    #[test]
    fn values_are_little_endian() {
        let page = page_of(PageFlags::ALL);
        page.store(7, 0x0403_0201_u32);
        let bytes: Vec<u8> = (7..11).map(|offset| page.load(offset)).collect();
        assert_eq!(bytes, [1, 2, 3, 4]);
    }

    #[test]
    fn an_access_may_end_at_the_page_end_but_not_beyond() {
        let page = page_of(PageFlags::ALL);
        assert_eq!(page.put(PAGE_SIZE - 8, 1_u64), Some(()));
        assert_eq!(page.get::<u64>(PAGE_SIZE - 8), Some(1));
        assert_eq!(page.put(PAGE_SIZE - 7, 2_u64), None);
        assert_eq!(page.get::<u64>(PAGE_SIZE - 7), None);
        assert_eq!(page.get::<u8>(PAGE_SIZE), None);
        assert_eq!(page.get::<u8>(usize::MAX), None);
    }

    #[test]
    #[should_panic(expected = "leaves the page")]
    fn a_load_beyond_the_page_panics() {
        page_of(PageFlags::ALL).load::<u16>(PAGE_SIZE - 1);
    }

    #[test]
    fn copies_of_any_alignment_and_length_round_trip() {
        let page = page_of(PageFlags::ALL);
        let pattern: Vec<u8> = (1..=40).collect();
        let step = if cfg!(miri) { 13 } else { 1 };
        for offset in (0..9).chain([PAGE_SIZE - 40]).step_by(step.min(4)) {
            for len in (0..=pattern.len()).step_by(step) {
                page.copy_in(0, &[0; PAGE_SIZE]);
                page.copy_in(offset, &pattern[..len]);
                let mut whole = [0; PAGE_SIZE];
                page.copy_out(0, &mut whole);
                let mut part = vec![0; len];
                page.copy_out(offset, &mut part);
                assert_eq!(part, pattern[..len]);
                assert_eq!(whole.iter().filter(|&&byte| byte != 0).count(), len);
            }
        }
    }

    #[test]
    #[should_panic(expected = "2 bytes at 0xfff leaves the page")]
    fn a_copy_beyond_the_page_panics() {
        page_of(PageFlags::ALL).copy_out(PAGE_SIZE - 1, &mut [0; 2]);
    }

    #[test]
    fn restrict_drops_rights_and_keeps_the_memory() {
        let page = page_of(PageFlags::ALL);
        let readable = page.restrict(PageFlags::READ);
        assert_eq!(readable.flags(), PageFlags::READ);
        assert_eq!(readable.restrict(PageFlags::ALL).flags(), PageFlags::READ);
        assert!(readable.same_memory(page));
        assert_eq!(page.restrict(PageFlags::NONE).flags(), PageFlags::NONE);
    }

    #[test]
    fn an_optional_page_is_one_machine_word() {
        assert_eq!(size_of::<Option<HostPage>>(), 8);
    }
}
