//! KVM_CAP_DIRTY_LOG_RING: the pages that a vCPU has written, in a ring that the client reads.
//!
//! `Documentation/virt/kvm/api.rst`, section 8, "KVM_CAP_DIRTY_LOG_RING", with its states of an entry:
//! the vCPU makes it dirty, the client harvests it, a reset makes it free. Only the thread in KVM_RUN
//! adds entries; resets of a VM come one at a time.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kvm_bindings::{KVM_DIRTY_LOG_PAGE_OFFSET, kvm_dirty_gfn};

use crate::shared_pages::SharedPages;

const FLAGS: usize = offset_of!(kvm_dirty_gfn, flags);
const SLOT: usize = offset_of!(kvm_dirty_gfn, slot);
const OFFSET: usize = offset_of!(kvm_dirty_gfn, offset);
/// Where the ring is in a vCPU's file.
pub const AT: usize = KVM_DIRTY_LOG_PAGE_OFFSET as usize * 4096;
/// Bytes of an entry.
pub const ENTRY: usize = size_of::<kvm_dirty_gfn>();

/// The vCPU has written the page.
const DIRTY: u32 = 1;
/// The client has seen the entry.
const HARVESTED: u32 = 2;

/// Entries that are kept free for what is written before the vCPU can leave.
pub const RESERVED: u32 = 64 + 512;

const PAGE_SHIFT: u32 = 12;

/// A slot with the number that KVM_SET_USER_MEMORY_REGION gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    number: u32,
    gpa: u64,
    bytes: u64,
}

/// The rings of one VM, and where its slots are.
#[derive(Default)]
pub struct DirtyRings {
    slots: RwLock<Slots>,
    rings: Mutex<Vec<Arc<DirtyRing>>>,
}

#[derive(Default)]
struct Slots {
    by_number: BTreeMap<u32, Slot>,
    by_gpa: BTreeMap<u64, Slot>,
}

impl DirtyRings {
    /// A slot is at `gpa` (as hypercalls have it, with its address space) from now on; with no bytes it
    /// is nowhere.
    pub fn set_slot(&self, number: u32, gpa: u64, bytes: u64) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = slots.by_number.remove(&number) {
            slots.by_gpa.remove(&before.gpa);
        }
        if bytes != 0 {
            let slot = Slot { number, gpa, bytes };
            slots.by_number.insert(number, slot);
            slots.by_gpa.insert(gpa, slot);
        }
    }

    /// Adds the ring of a new vCPU.
    pub fn add(&self, ring: Arc<DirtyRing>) {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).push(ring);
    }

    /// Takes the ring of a vCPU that has ended out.
    pub fn remove(&self, ring: &Arc<DirtyRing>) {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.retain(|other| !Arc::ptr_eq(other, ring));
    }

    /// Puts written pages into the ring of the vCPU that has written them. Those of a slot that is
    /// gone are nobody's.
    pub fn put(&self, ring: &DirtyRing, pages: &[u64]) {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        for gpa in pages {
            let slot = slots.by_gpa.range(..=gpa).next_back().map(|(_, slot)| slot);
            if let Some(slot) = slot.filter(|slot| gpa - slot.gpa < slot.bytes) {
                ring.push(slot.number, (gpa - slot.gpa) >> PAGE_SHIFT);
            }
        }
    }

    /// Frees the entries that the client has harvested: `clear` gets their pages, which are logged
    /// anew, before it returns. How many entries that were.
    pub fn reset(&self, clear: impl Fn(&[u64])) -> u32 {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut pages = Vec::new();
        let mut count = 0;
        for ring in rings.iter() {
            while let Some((number, offset)) = ring.take_harvested() {
                count += 1;
                let slot = slots.by_number.get(&number);
                // The client may have written anything there.
                let inside = |slot: &&Slot| offset < slot.bytes >> PAGE_SHIFT;
                pages.extend(slot.filter(inside).map(|slot| slot.gpa + (offset << PAGE_SHIFT)));
            }
        }
        clear(&pages);
        count
    }
}

/// One vCPU's.
pub struct DirtyRing {
    entries: SharedPages,
    size: u32,
    /// Entries that were added, and those that were freed; they wrap.
    added: AtomicU32,
    freed: AtomicU32,
}

impl DirtyRing {
    /// An empty ring of `size` entries, a power of two.
    pub fn new(entries: SharedPages, size: u32) -> Self {
        Self { entries, size, added: AtomicU32::new(0), freed: AtomicU32::new(0) }
    }

    /// So many entries wait for the client that the vCPU must not run.
    pub fn is_soft_full(&self) -> bool {
        self.used() >= self.size - RESERVED
    }

    fn used(&self) -> u32 {
        self.added.load(Ordering::Relaxed).wrapping_sub(self.freed.load(Ordering::Acquire))
    }

    fn push(&self, slot: u32, offset: u64) {
        // What is reserved is more than a vCPU writes before it leaves.
        assert!(self.used() < self.size, "the dirty ring is full");
        let added = self.added.load(Ordering::Relaxed);
        let at = self.place(added);
        self.entries.write(at + SLOT, slot);
        self.entries.write(at + OFFSET, offset);
        self.entries.store_release(at + FLAGS, DIRTY);
        self.added.store(added.wrapping_add(1), Ordering::Release);
    }

    /// Frees the next entry if it was harvested: its slot and offset, as the client left them.
    fn take_harvested(&self) -> Option<(u32, u64)> {
        let freed = self.freed.load(Ordering::Relaxed);
        if freed == self.added.load(Ordering::Acquire) {
            return None;
        }
        let at = self.place(freed);
        if self.entries.load_acquire(at + FLAGS) & HARVESTED == 0 {
            return None;
        }
        let entry = (self.entries.read(at + SLOT), self.entries.read(at + OFFSET));
        self.entries.store_release(at + FLAGS, 0);
        self.freed.store(freed.wrapping_add(1), Ordering::Release);
        Some(entry)
    }

    fn place(&self, number: u32) -> usize {
        (number & (self.size - 1)) as usize * ENTRY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_pages::tests::pages;
    use std::cell::RefCell;

    const SIZE: u32 = 1024;

    fn rings() -> (DirtyRings, Arc<DirtyRing>) {
        let ring = Arc::new(DirtyRing::new(pages(SIZE as usize * ENTRY), SIZE));
        let rings = DirtyRings::default();
        rings.add(Arc::clone(&ring));
        rings.set_slot(3, 0x10000, 0x4000);
        rings.set_slot(1 << 16, 1 << 50 | 0x10000, 0x1000);
        (rings, ring)
    }

    fn harvest(ring: &DirtyRing, number: u32) {
        ring.entries.store_release(number as usize % SIZE as usize * ENTRY, HARVESTED);
    }

    fn reset(rings: &DirtyRings) -> (u32, Vec<u64>) {
        let cleared = RefCell::new(Vec::new());
        let count = rings.reset(|pages| cleared.borrow_mut().extend_from_slice(pages));
        (count, cleared.into_inner())
    }

    #[test]
    fn a_page_is_told_by_its_slot() {
        let (rings, ring) = rings();
        rings.put(&ring, &[0x12000, 1 << 50 | 0x10000, 0x14000, 0xF000]);
        assert_eq!(ring.used(), 2);
        assert_eq!(ring.entries.read::<[u32; 2]>(0), [DIRTY, 3]);
        assert_eq!(ring.entries.read::<u64>(8), 2);
        assert_eq!(ring.entries.read::<[u32; 2]>(16), [DIRTY, 1 << 16]);
    }

    #[test]
    fn a_reset_frees_what_was_harvested_in_order() {
        let (rings, ring) = rings();
        rings.put(&ring, &[0x10000, 0x11000, 0x12000]);
        harvest(&ring, 0);
        harvest(&ring, 2);
        assert_eq!(reset(&rings), (1, vec![0x10000]));
        assert_eq!(ring.entries.read::<u32>(0), 0);
        harvest(&ring, 1);
        assert_eq!(reset(&rings), (2, vec![0x11000, 0x12000]));
        assert_eq!(reset(&rings), (0, vec![]));
    }

    #[test]
    fn nonsense_in_an_entry_is_freed_and_ignored() {
        let (rings, ring) = rings();
        rings.put(&ring, &[0x10000, 0x11000]);
        ring.entries.write(SLOT, 77_u32);
        ring.entries.write(ENTRY + OFFSET, u64::MAX);
        harvest(&ring, 0);
        harvest(&ring, 1);
        assert_eq!(reset(&rings), (2, vec![]));
    }

    #[test]
    fn an_entry_that_was_never_added_is_not_freed() {
        let (rings, ring) = rings();
        for number in 0..SIZE {
            harvest(&ring, number);
        }
        assert_eq!(reset(&rings), (0, vec![]));
    }

    #[test]
    fn it_is_full_before_the_end_and_goes_round() {
        let (rings, ring) = rings();
        for round in 0..5 {
            for number in 0..SIZE - RESERVED {
                assert!(!ring.is_soft_full());
                rings.put(&ring, &[0x10000]);
                harvest(&ring, round * (SIZE - RESERVED) + number);
            }
            assert!(ring.is_soft_full());
            assert_eq!(reset(&rings).0, SIZE - RESERVED);
        }
    }

    #[test]
    fn a_slot_that_moved_is_where_it_is_now() {
        let (rings, ring) = rings();
        rings.set_slot(3, 0x80000, 0x1000);
        rings.put(&ring, &[0x10000, 0x80000]);
        assert_eq!(ring.used(), 1);
        rings.set_slot(3, 0, 0);
        rings.put(&ring, &[0x80000]);
        assert_eq!(ring.used(), 1);
    }
}
