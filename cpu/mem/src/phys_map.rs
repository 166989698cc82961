//! The guest-physical map: which host page stands behind a guest-physical page.
//!
//! A radix tree of three levels, eleven bits each, over page numbers of 33 bits. Readers take no
//! lock and never wait: an interior node or a leaf, once published, stays until the map is dropped, and a
//! leaf entry is one atomic word. Writers of entries race with compare-exchange.
//!
//! Most memory is mapped in one piece. A block of it, as many pages as a leaf has, is one word until one
//! of its pages is told apart; from then on its leaf counts. Leaves and blocks come and go under a lock.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::code_marks::CodeMarks;
use crate::journal::Journal;
use crate::refused::Refused;
use crate::{HostPage, PAGE_SIZE, PageFlags};

/// End of the guest-physical address space (exclusive): 32 TiB.
pub const MAX_GPA: u64 = 1 << 45;

const PAGE_SHIFT: u32 = 12;
const LEVEL_BITS: u32 = 11;
const FANOUT: usize = 1 << LEVEL_BITS;
/// Bytes of a block, see [`PhysMap::map_block`]: 8 MiB.
pub const BLOCK_SIZE: u64 = 1 << (PAGE_SHIFT + LEVEL_BITS);

/// Bits of an entry beside the rights: the page's writes are logged; it was written.
pub(crate) const LOGGED: u64 = PageFlags::LOGGED.bits() as u64;
pub(crate) const WRITTEN: u64 = 1 << 4;
/// The page was mapped with its writes logged, and nobody has looked it up yet.
pub(crate) const UNTOUCHED: u64 = 1 << 5;
/// All of them.
pub(crate) const LOG_BITS: u64 = LOGGED | WRITTEN | UNTOUCHED;

/// Why a page was not mapped or unmapped; each carries the guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The guest-physical or the host address is not page-aligned.
    Unaligned(u64),
    /// The guest-physical address is not below [`MAX_GPA`], or the host address is null.
    OutOfRange(u64),
    /// A page is mapped there already.
    AlreadyMapped(u64),
    /// No page is mapped there.
    NotMapped(u64),
}

impl fmt::Display for MapError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unaligned(gpa) => write!(formatter, "gpa {gpa:#x}: address not page-aligned"),
            Self::OutOfRange(gpa) => write!(formatter, "gpa {gpa:#x}: address out of range"),
            Self::AlreadyMapped(gpa) => write!(formatter, "gpa {gpa:#x}: already mapped"),
            Self::NotMapped(gpa) => write!(formatter, "gpa {gpa:#x}: not mapped"),
        }
    }
}

impl std::error::Error for MapError {}

/// Host pages (address, rights and log bits, zero if vacant) of 2048 neighbouring guest pages.
struct Leaf([AtomicU64; FANOUT]);

/// Children of an interior node; null where nothing was ever mapped.
struct Node<Child>([AtomicPtr<Child>; FANOUT]);

/// Leaves, and blocks that have none: the entry of a block's first page, or zero.
struct Middle {
    leaves: Node<Leaf>,
    blocks: [AtomicU64; FANOUT],
}

/// The guest-physical map of one virtual machine, shared by its vCPUs.
pub struct PhysMap {
    root: Box<Node<Middle>>,
    /// Held to publish a leaf or to change a block.
    leaves: Mutex<()>,
    refused: Refused,
    pub(crate) journal: Journal,
    code_marks: Arc<CodeMarks>,
}

impl PhysMap {
    /// An empty map.
    pub fn new() -> Self {
        Self {
            root: Box::default(),
            leaves: Mutex::default(),
            refused: Refused::default(),
            journal: Journal::default(),
            code_marks: Arc::new(CodeMarks::new()),
        }
    }

    /// What processors keep as code of this memory.
    pub fn code_marks(&self) -> &Arc<CodeMarks> {
        &self.code_marks
    }

    /// Lets the guest use the host page at `hva` as its page at `gpa`.
    ///
    /// # Errors
    /// [`MapError::Unaligned`], [`MapError::OutOfRange`] and [`MapError::AlreadyMapped`]; nothing
    /// changed then.
    ///
    /// # Safety
    /// The 4096 bytes at `hva` stay mapped readable, and writable if `flags` has `WRITE`, in this
    /// process until [`unmap_page`](Self::unmap_page) has returned *and* every holder of the
    /// [`HostPage`] (each vCPU) has acknowledged the flush, or the map and all holders are gone.
    /// No Rust reference to these bytes exists meanwhile.
    pub unsafe fn map_page(&self, gpa: u64, hva: u64, flags: PageFlags) -> Result<(), MapError> {
        if !hva.is_multiple_of(PAGE_SIZE as u64) {
            return Err(MapError::Unaligned(gpa));
        }
        if hva == 0 {
            return Err(MapError::OutOfRange(gpa));
        }
        let path = Path::of(gpa)?;
        let leaf = self.leaf(child_or_new(&self.root, path.root), path.middle);
        let logged = flags.contains(PageFlags::LOGGED | PageFlags::WRITE);
        let entry = hva | u64::from(flags.bits()) | if logged { UNTOUCHED } else { 0 };
        leaf.0[path.leaf]
            .compare_exchange(0, entry, Ordering::AcqRel, Ordering::Relaxed)
            .map_err(|_| MapError::AlreadyMapped(gpa))?;
        Ok(())
    }

    /// As [`map_page`](Self::map_page) for [`BLOCK_SIZE`] bytes, whose writes are not logged. False, and
    /// nothing changed: these pages have to be mapped one by one.
    ///
    /// # Safety
    /// As for [`map_page`](Self::map_page), for each of the pages.
    pub unsafe fn map_block(&self, gpa: u64, hva: u64, flags: PageFlags) -> bool {
        let aligned = gpa.is_multiple_of(BLOCK_SIZE) && hva.is_multiple_of(PAGE_SIZE as u64);
        let Ok(path) = Path::of(gpa) else { return false };
        if !aligned || hva == 0 || flags.contains(PageFlags::LOGGED) {
            return false;
        }
        self.change_block(path, 0, hva | u64::from(flags.bits()))
    }

    /// Takes [`BLOCK_SIZE`] bytes from the guest that [`map_block`](Self::map_block) has mapped. False, and
    /// nothing changed: they have to be unmapped page by page. vCPUs as for
    /// [`unmap_page`](Self::unmap_page).
    pub fn unmap_block(&self, gpa: u64) -> bool {
        let Ok(path) = Path::of(gpa) else { return false };
        let mapped = child(&self.root, path.root)
            .map_or(0, |middle| middle.blocks[path.middle].load(Ordering::Acquire));
        gpa.is_multiple_of(BLOCK_SIZE) && mapped != 0 && self.change_block(path, mapped, 0)
    }

    /// Changes a block that has no leaf, if it is what is expected.
    fn change_block(&self, path: Path, before: u64, after: u64) -> bool {
        let middle = child_or_new(&self.root, path.root);
        let _guard = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        let block = &middle.blocks[path.middle];
        child(&middle.leaves, path.middle).is_none()
            && block.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The leaf of a block, whose pages are told apart from now on.
    fn leaf<'a>(&self, middle: &'a Middle, index: usize) -> &'a Leaf {
        if let Some(leaf) = child(&middle.leaves, index) {
            return leaf;
        }
        let _guard = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        let block = middle.blocks[index].load(Ordering::Acquire);
        child_or_make(&middle.leaves, index, || Box::new(Leaf::of_block(block)))
    }

    /// Takes the page at `gpa` from the guest. vCPUs may go on using it until they have
    /// acknowledged a flush.
    ///
    /// # Errors
    /// [`MapError::Unaligned`], [`MapError::OutOfRange`] and [`MapError::NotMapped`].
    pub fn unmap_page(&self, gpa: u64) -> Result<(), MapError> {
        let entry = self.entry(Path::of(gpa)?).ok_or(MapError::NotMapped(gpa))?;
        match entry.swap(0, Ordering::AcqRel) {
            0 => Err(MapError::NotMapped(gpa)),
            _ => Ok(()),
        }
    }

    /// Lets the guest use another host page as its page at `gpa`, which never has none meanwhile. Its
    /// writes are logged as before. vCPUs may go on using the old one until they have acknowledged a
    /// flush.
    ///
    /// # Errors
    /// [`MapError::Unaligned`], [`MapError::OutOfRange`] and [`MapError::NotMapped`].
    ///
    /// # Safety
    /// As for [`map_page`](Self::map_page).
    pub unsafe fn replace_page(
        &self,
        gpa: u64,
        hva: u64,
        flags: PageFlags,
    ) -> Result<(), MapError> {
        if !hva.is_multiple_of(PAGE_SIZE as u64) {
            return Err(MapError::Unaligned(gpa));
        }
        if hva == 0 {
            return Err(MapError::OutOfRange(gpa));
        }
        let entry = self.entry(Path::of(gpa)?).ok_or(MapError::NotMapped(gpa))?;
        let rights = u64::from((flags & PageFlags::ALL).bits());
        let replace = |old: u64| (old != 0).then_some(hva | rights | old & LOG_BITS);
        let replaced = entry.fetch_update(Ordering::AcqRel, Ordering::Relaxed, replace);
        replaced.map(|_| ()).map_err(|_| MapError::NotMapped(gpa))
    }

    /// Whether `[start, end)` refuses accesses where no page is mapped. vCPUs see it at their next
    /// access that finds no page.
    pub fn refuse(&self, start: u64, end: u64, refused: bool) {
        self.refused.set(start, end, refused);
    }

    /// An access to `gpa`, where no page is mapped, is no device access.
    #[inline]
    pub fn is_refused(&self, gpa: u64) -> bool {
        self.refused.has(gpa)
    }

    /// The host page behind the page of `gpa` (any address in it), if there is one.
    #[inline]
    pub fn page(&self, gpa: u64) -> Option<HostPage> {
        match self.load(gpa) {
            seen if seen & UNTOUCHED != 0 => self.page_to_write(gpa),
            seen => HostPage::from_entry(seen),
        }
    }

    /// What the entry of the page around `gpa` says; 0: nothing is mapped there.
    #[inline]
    pub(crate) fn load(&self, gpa: u64) -> u64 {
        let Ok(path) = Path::of(gpa & !(PAGE_SIZE as u64 - 1)) else { return 0 };
        let Some(middle) = child(&self.root, path.root) else { return 0 };
        // In this order: a block that has a leaf by now says what was so before that.
        match child(&middle.leaves, path.middle) {
            Some(leaf) => leaf.0[path.leaf].load(Ordering::Acquire),
            None => page_of_block(middle.blocks[path.middle].load(Ordering::Acquire), path.leaf),
        }
    }

    /// The entry of the page around `gpa`, to be changed, if anything near was ever mapped.
    #[inline]
    pub(crate) fn entry_of(&self, gpa: u64) -> Option<&AtomicU64> {
        self.entry(Path::of(gpa & !(PAGE_SIZE as u64 - 1)).ok()?)
    }

    #[inline]
    fn entry(&self, path: Path) -> Option<&AtomicU64> {
        let middle = child(&self.root, path.root)?;
        let vacant = middle.blocks[path.middle].load(Ordering::Acquire) == 0;
        if vacant && child(&middle.leaves, path.middle).is_none() {
            return None;
        }
        Some(&self.leaf(middle, path.middle).0[path.leaf])
    }
}

impl Default for PhysMap {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PhysMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PhysMap").finish_non_exhaustive()
    }
}

/// Indexes of a guest page in the nodes on its way; each below `FANOUT`.
#[derive(Clone, Copy)]
struct Path {
    root: usize,
    middle: usize,
    leaf: usize,
}

impl Path {
    #[inline]
    fn of(gpa: u64) -> Result<Self, MapError> {
        if gpa >= MAX_GPA {
            return Err(MapError::OutOfRange(gpa));
        }
        if !gpa.is_multiple_of(PAGE_SIZE as u64) {
            return Err(MapError::Unaligned(gpa));
        }
        let index = |level: u32| (gpa >> (PAGE_SHIFT + level * LEVEL_BITS)) as usize % FANOUT;
        Ok(Self { root: index(2), middle: index(1), leaf: index(0) })
    }
}

#[inline]
fn child<Child>(node: &Node<Child>, index: usize) -> Option<&Child> {
    let pointer = node.0[index].load(Ordering::Acquire);
    // SAFETY: null, or a box published by `child_or_make` with release ordering; it is freed only
    // by the drop of `node`, which the borrow of `node` excludes.
    unsafe { pointer.as_ref() }
}

/// The entry of page number `number` of a block.
#[inline]
fn page_of_block(block: u64, number: usize) -> u64 {
    if block == 0 { 0 } else { block + ((number as u64) << PAGE_SHIFT) }
}

fn child_or_new<Child: Default>(node: &Node<Child>, index: usize) -> &Child {
    child_or_make(node, index, Box::default)
}

fn child_or_make<Child>(
    node: &Node<Child>,
    index: usize,
    make: impl FnOnce() -> Box<Child>,
) -> &Child {
    if let Some(child) = child(node, index) {
        return child;
    }
    let new = Box::into_raw(make());
    let slot = &node.0[index];
    let winner =
        match slot.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: `new` came from a box two lines above and was not published.
                drop(unsafe { Box::from_raw(new) });
                other
            }
        };
    // SAFETY: not null, and published as in `child`.
    unsafe { &*winner }
}

impl Leaf {
    fn of_block(block: u64) -> Self {
        Self(std::array::from_fn(|number| AtomicU64::new(page_of_block(block, number))))
    }
}

impl Default for Middle {
    fn default() -> Self {
        Self { leaves: Node::default(), blocks: [const { AtomicU64::new(0) }; FANOUT] }
    }
}

impl<Child> Default for Node<Child> {
    fn default() -> Self {
        Self([const { AtomicPtr::new(ptr::null_mut()) }; FANOUT])
    }
}

impl<Child> Drop for Node<Child> {
    fn drop(&mut self) {
        for slot in &mut self.0 {
            let pointer = *slot.get_mut();
            if !pointer.is_null() {
                // SAFETY: from the box that `child_or_make` published here; `&mut self` excludes
                // readers, and each slot is visited once.
                drop(unsafe { Box::from_raw(pointer) });
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::alloc::{Layout, alloc_zeroed};
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// Keeps the pages of all tests reachable, so that Miri finds only true leaks.
    static PAGES: Mutex<Vec<AtomicPtr<u8>>> = Mutex::new(Vec::new());

    /// The address of a zeroed page that lives until the end of the test process.
    fn host_page_address() -> u64 {
        let layout = Layout::from_size_align(PAGE_SIZE, PAGE_SIZE).expect("a valid layout");
        // SAFETY: the layout is not empty.
        let page = unsafe { alloc_zeroed(layout) };
        PAGES.lock().unwrap_or_else(PoisonError::into_inner).push(AtomicPtr::new(page));
        page.expose_provenance() as u64
    }

    fn map(map: &PhysMap, gpa: u64, hva: u64, flags: PageFlags) -> Result<(), MapError> {
        // SAFETY: either refused for its address, or a page that is never freed.
        unsafe { map.map_page(gpa, hva, flags) }
    }

    /// A map with one zeroed page.
    pub(crate) fn map_with_page(gpa: u64, flags: PageFlags) -> PhysMap {
        let phys = PhysMap::new();
        map(&phys, gpa, host_page_address(), flags).expect("an empty map takes a page");
        phys
    }

    /// A zeroed page with these rights.
    pub(crate) fn page_of(flags: PageFlags) -> HostPage {
        let phys = PhysMap::new();
        map(&phys, 0, host_page_address(), flags).expect("an empty map takes a page");
        phys.page(0).expect("the page was just mapped")
    }

    #[test]
    fn a_mapped_page_is_found_under_every_address_in_it() {
        let phys = PhysMap::new();
        let hva = host_page_address();
        map(&phys, 0x1000, hva, PageFlags::READ).unwrap();
        assert_eq!(phys.page(0x1fff), phys.page(0x1000));
        assert_eq!(phys.page(0x1000).unwrap().flags(), PageFlags::READ);
        assert_eq!(phys.page(0xfff), None);
        assert_eq!(phys.page(0x2000), None);
    }

    #[test]
    fn a_page_is_replaced_and_stays_logged() {
        let phys = map_with_page(0x1000, PageFlags::ALL);
        assert!(phys.log_writes(0x1000, true, true));
        // SAFETY: a page that is never freed.
        let replaced = unsafe { phys.replace_page(0x1000, host_page_address(), PageFlags::READ) };
        assert_eq!(replaced, Ok(()));
        assert_eq!(phys.page(0x1000).unwrap().flags(), PageFlags::READ);
        assert!(phys.is_written(0x1000));
        // SAFETY: as above.
        let replaced = unsafe { phys.replace_page(0x2000, host_page_address(), PageFlags::READ) };
        assert_eq!(replaced, Err(MapError::NotMapped(0x2000)));
    }

    #[test]
    fn the_first_and_the_last_page_can_be_mapped() {
        let phys = PhysMap::new();
        let (first, last) = (host_page_address(), host_page_address());
        map(&phys, 0, first, PageFlags::ALL).unwrap();
        map(&phys, MAX_GPA - 0x1000, last, PageFlags::ALL).unwrap();
        phys.page(0).unwrap().store(0, 1_u8);
        phys.page(MAX_GPA - 1).unwrap().store(0, 2_u8);
        assert_eq!(phys.page(0).unwrap().load::<u8>(0), 1);
        assert_eq!(phys.page(MAX_GPA - 1).unwrap().load::<u8>(0), 2);
    }

    #[test]
    fn bad_addresses_are_refused() {
        let phys = PhysMap::new();
        let hva = host_page_address();
        assert_eq!(map(&phys, 0x800, hva, PageFlags::ALL), Err(MapError::Unaligned(0x800)));
        assert_eq!(map(&phys, 0x1000, hva + 8, PageFlags::ALL), Err(MapError::Unaligned(0x1000)));
        assert_eq!(map(&phys, 0x1000, 0, PageFlags::ALL), Err(MapError::OutOfRange(0x1000)));
        assert_eq!(map(&phys, MAX_GPA, hva, PageFlags::ALL), Err(MapError::OutOfRange(MAX_GPA)));
        assert_eq!(phys.unmap_page(u64::MAX), Err(MapError::OutOfRange(u64::MAX)));
        assert_eq!(phys.unmap_page(0x10), Err(MapError::Unaligned(0x10)));
        assert_eq!(phys.page(MAX_GPA), None);
        assert_eq!(phys.page(u64::MAX), None);
    }

    #[test]
    fn a_second_mapping_is_refused_and_changes_nothing() {
        let phys = PhysMap::new();
        map(&phys, 0, host_page_address(), PageFlags::READ).unwrap();
        let before = phys.page(0);
        let again = map(&phys, 0, host_page_address(), PageFlags::ALL);
        assert_eq!(again, Err(MapError::AlreadyMapped(0)));
        assert_eq!(phys.page(0), before);
    }

    #[test]
    fn an_unmapped_page_is_gone_and_may_be_mapped_again() {
        let phys = PhysMap::new();
        let hva = host_page_address();
        assert_eq!(phys.unmap_page(0x5000), Err(MapError::NotMapped(0x5000)));
        map(&phys, 0x5000, hva, PageFlags::NONE).unwrap();
        assert_eq!(phys.unmap_page(0x5000), Ok(()));
        assert_eq!(phys.page(0x5000), None);
        assert_eq!(phys.unmap_page(0x5000), Err(MapError::NotMapped(0x5000)));
        map(&phys, 0x5000, hva, PageFlags::ALL).unwrap();
        assert!(phys.page(0x5000).is_some());
    }

    #[test]
    fn a_block_has_the_pages_that_its_leaf_would_have() {
        let phys = PhysMap::new();
        let hva = 1 << 32;
        // SAFETY: nobody loads from or stores to these pages.
        let map_block = |gpa, flags| unsafe { phys.map_block(gpa, hva, flags) };
        let address = |gpa| phys.page(gpa).map(|page| (page.address(), page.flags()));
        assert!(!map_block(BLOCK_SIZE + 0x1000, PageFlags::ALL), "not aligned");
        assert!(!map_block(MAX_GPA, PageFlags::ALL), "out of range");
        assert!(!map_block(BLOCK_SIZE, PageFlags::ALL | PageFlags::LOGGED), "logged");
        assert!(map_block(BLOCK_SIZE, PageFlags::READ));
        assert!(!map_block(BLOCK_SIZE, PageFlags::READ), "mapped already");
        assert_eq!(
            map(&phys, BLOCK_SIZE, hva, PageFlags::ALL),
            Err(MapError::AlreadyMapped(BLOCK_SIZE))
        );
        for leaf_is_there in [false, true] {
            let ends = [BLOCK_SIZE, BLOCK_SIZE + 0x5000, 2 * BLOCK_SIZE - 1];
            let pages =
                ends.map(|gpa| Some((hva + ((gpa - BLOCK_SIZE) & !0xFFF), PageFlags::READ)));
            assert_eq!(ends.map(address), pages, "{leaf_is_there}");
            assert_eq!([BLOCK_SIZE - 1, 2 * BLOCK_SIZE].map(address), [None; 2]);
            assert!(phys.log_writes(BLOCK_SIZE + 0x1000, false, false));
        }
        assert_eq!(phys.unmap_page(BLOCK_SIZE), Ok(()));
        assert_eq!(
            [BLOCK_SIZE, BLOCK_SIZE + 0x1000].map(|gpa| phys.page(gpa).is_some()),
            [false, true]
        );
        assert!(!phys.unmap_block(BLOCK_SIZE), "its pages are told apart");
    }

    #[test]
    fn an_unmapped_block_is_gone_and_may_be_mapped_again() {
        let phys = PhysMap::new();
        assert!(!phys.unmap_block(0));
        for hva in [1 << 32, 1 << 33] {
            // SAFETY: nobody loads from or stores to these pages.
            assert!(unsafe { phys.map_block(0, hva, PageFlags::ALL) });
            assert_eq!(phys.page(0x1000).unwrap().address(), hva + 0x1000);
            assert!(!phys.unmap_block(0x1000));
            assert!(phys.unmap_block(0));
            assert_eq!(phys.page(0x1000), None);
            assert_eq!(phys.unmap_page(0), Err(MapError::NotMapped(0)));
        }
        map(&phys, 0, host_page_address(), PageFlags::ALL).unwrap();
        // SAFETY: as above.
        assert!(!unsafe { phys.map_block(0, 1 << 32, PageFlags::ALL) }, "it has a leaf");
    }

    #[test]
    fn one_of_two_racing_mappings_wins() {
        const PAGES: u64 = if cfg!(miri) { 8 } else { 256 };
        let phys = PhysMap::new();
        let hva = host_page_address();
        let mapped = |_| {
            // Strided so that the threads race for nodes of every level as well.
            let taken = (0..PAGES).map(|n| map(&phys, n << 31 | n << 12, hva, PageFlags::ALL));
            taken.filter(Result::is_ok).count() as u64
        };
        let counts: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2).map(|n| scope.spawn(move || mapped(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(counts.iter().sum::<u64>(), PAGES);
        assert!((0..PAGES).all(|n| phys.page(n << 31 | n << 12).is_some()));
    }
}
