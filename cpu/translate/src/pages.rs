//! Translated code by the page that it was made from.
//!
//! A page is a guest-physical one at a linear address, since translated code has linear addresses
//! in it. Its blocks are used only while the bytes that they were made from are in memory; they are
//! compared once in each epoch ([`cpu_interp::Cpu::code_epoch`]) and whenever the page is
//! translated anew, and stores of processors are noticed by marks ([`cpu_mem::CodeMarks`]).
//! Branches inside of a page lead from block to block without a look, which is why the page is
//! compared as a whole; who enters it from elsewhere looks at its epoch.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use cpu_mem::{AddressHasher, HostPage, PAGE_SIZE};

use crate::flags::FlagState;
use crate::kept_bytes::KeptBytes;
use crate::registers::Registers;
use crate::seen::{Place, Seen};

const PAGE_MASK: u64 = !(PAGE_SIZE as u64 - 1);

/// A place in code memory.
pub(crate) type At = u32;

/// The entries of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// For flags in the host's RFLAGS.
    pub host: At,
    /// For flags in the frame.
    pub frame: At,
    /// For flags in both.
    pub both: At,
    /// As `host` and `frame`, for who has less loaded than `wanted`.
    pub checked: (At, At),
    /// What has to be loaded at the other entries, see [`crate::registers`].
    pub wanted: Registers,
    /// For who comes from another page, flags in the frame: leaves with [`STALE`] if the page was not yet
    /// compared in this epoch.
    pub guarded: At,
}

/// What translated code leaves through instead of a link: the page has to be compared.
pub(crate) const STALE: u32 = u32::MAX;
/// Likewise: tier 0 has to execute a block, since what it uses cannot be loaded, or is no longer what it
/// was made from.
pub(crate) const INTERPRET: u32 = u32::MAX - 1;

impl Block {
    /// The entry for a branch that comes with the flags there and has that loaded.
    pub(crate) fn entry(&self, state: FlagState, loaded: Registers) -> At {
        if !loaded.cover(self.wanted) {
            return if state.frame { self.checked.1 } else { self.checked.0 };
        }
        match state {
            FlagState { host: true, frame: true, .. } => self.both,
            FlagState { host: true, .. } => self.host,
            FlagState { .. } => self.frame,
        }
    }
}

/// Where a page is: guest-physical and linear address.
pub(crate) type PageKey = (u64, u64);

/// The page of these addresses.
pub(crate) fn key(gpa: u64, rip: u64) -> PageKey {
    (gpa & PAGE_MASK, rip & PAGE_MASK)
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

/// What was made from a page.
struct Page {
    /// By their [`number`], in its order.
    blocks: Vec<(u16, Block)>,
    /// What it was made from.
    bytes: KeptBytes,
    /// When they were compared.
    seen: Place,
    /// Where it was entered from other pages, see [`Pages::entered`].
    entered: Vec<Entered>,
}

/// An address that other pages lead to, and the code there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entered {
    pub rip: u64,
    pub code: u64,
}

/// For so many blocks of a page more memory is made at a time: pages are many.
const MORE_BLOCKS: usize = 8;
/// So many of a page are remembered.
const MAX_ENTERED: usize = 64;

impl Page {
    fn new(seen: Place) -> Self {
        Page { blocks: Vec::new(), bytes: KeptBytes::default(), seen, entered: Vec::new() }
    }

    fn block(&self, number: u16) -> Option<Block> {
        let place = self.blocks.binary_search_by_key(&number, |&(known, _)| known).ok()?;
        Some(self.blocks[place].1)
    }

    fn insert(&mut self, number: u16, block: Block) {
        match self.blocks.binary_search_by_key(&number, |&(known, _)| known) {
            Ok(place) => self.blocks[place].1 = block,
            Err(place) => {
                if self.blocks.capacity() == self.blocks.len() {
                    self.blocks.reserve_exact(MORE_BLOCKS);
                }
                self.blocks.insert(place, (number, block));
            }
        }
    }

    fn is_unchanged(&self, page: HostPage) -> bool {
        self.bytes.all(|offset, bytes| page.holds(offset, bytes))
    }
}

/// All pages.
#[derive(Default)]
pub(crate) struct Pages {
    pages: Map<PageKey, Page>,
    /// Linear addresses of the pages of a guest-physical one.
    linear: Map<u64, Vec<u64>>,
    /// Of pages that were dropped, too: code that was made from them looks there still.
    seen: Seen,
    /// The pages that `seen` has places for, in order.
    keys: Vec<PageKey>,
}

impl Pages {
    /// The block at these addresses, or its twin without groups, if there is one that was
    /// [compared](Self::compare) in this epoch.
    pub(crate) fn find(&self, gpa: u64, rip: u64, twin: bool, epoch: u32) -> Option<Block> {
        let known = self.pages.get(&key(gpa, rip))?;
        let seen = self.seen.is(known.seen, epoch);
        if seen { known.block(number(rip, twin)) } else { None }
    }

    /// The granules that something was made from at these addresses and that were not compared with
    /// memory in this epoch; all or none.
    pub(crate) fn unseen(&self, gpa: u64, rip: u64, epoch: u32) -> Option<u64> {
        let known = self.pages.get(&key(gpa, rip))?;
        (!self.seen.is(known.seen, epoch)).then_some(known.bytes.granules())
    }

    /// Forgets what was made at these addresses if it differs from memory.
    pub(crate) fn compare(&mut self, gpa: u64, rip: u64, page: HostPage, epoch: u32) {
        match self.pages.get(&key(gpa, rip)) {
            None => {}
            Some(known) if known.is_unchanged(page) => self.seen.set(known.seen, epoch),
            Some(_) => self.drop_page(gpa, |_| ()),
        }
    }

    /// The address of the epoch in which the page at these addresses was compared with memory, which is
    /// the present one. It is valid, and the epoch the right one, until [`Self::clear`]. Nothing of the
    /// page is known that was not compared in it.
    pub(crate) fn seen(&mut self, gpa: u64, rip: u64, epoch: u32) -> u64 {
        let key = key(gpa, rip);
        let page = self.pages.entry(key).or_insert_with(|| {
            self.linear.entry(key.0).or_default().push(key.1);
            self.keys.push(key);
            Page::new(self.seen.add())
        });
        self.seen.set(page.seen, epoch);
        self.seen.address(page.seen)
    }

    /// A short name of the page at these addresses, for which [`Self::seen`] was asked.
    pub(crate) fn number(&self, gpa: u64, rip: u64) -> Option<u32> {
        Some(self.pages.get(&key(gpa, rip))?.seen.number())
    }

    /// The page that has, or had, this [`Self::number`].
    pub(crate) fn key_of(&self, number: u32) -> Option<PageKey> {
        self.keys.get(number as usize).copied()
    }

    /// Remembers a block, or a twin, made from `bytes`, for which [`Self::seen`] was asked.
    pub(crate) fn insert(
        &mut self,
        gpa: u64,
        rip: u64,
        twin: bool,
        bytes: &[u8],
        block: Block,
        source: HostPage,
    ) {
        let Some(page) = self.pages.get_mut(&key(gpa, rip)) else { return };
        page.bytes.keep(offset(rip).into(), bytes, |at, to| source.copy_out(at, to));
        page.insert(number(rip, twin), block);
    }

    /// Remembers that the code at these addresses was entered from another page.
    pub(crate) fn enter(&mut self, gpa: u64, entered: Entered) {
        let Some(page) = self.pages.get_mut(&key(gpa, entered.rip)) else { return };
        if let Some(known) = page.entered.iter_mut().find(|known| known.rip == entered.rip) {
            *known = entered;
        } else if page.entered.len() < MAX_ENTERED {
            page.entered.push(entered);
        }
    }

    /// Where the page at these addresses was entered from others, mostly all of it: who comes back to it
    /// will come to many of them.
    pub(crate) fn entered(&self, gpa: u64, rip: u64) -> &[Entered] {
        self.pages.get(&key(gpa, rip)).map_or(&[], |page| &page.entered)
    }

    /// Forgets what was made from the guest-physical page around `gpa`. Code that was made from it is not
    /// entered again. `each` hears where a block began, guest-physically.
    pub(crate) fn drop_page(&mut self, gpa: u64, mut each: impl FnMut(u64)) {
        let gpa = gpa & PAGE_MASK;
        for linear in self.linear.remove(&gpa).unwrap_or_default() {
            if let Some(page) = self.pages.remove(&(gpa, linear)) {
                page.blocks
                    .iter()
                    .for_each(|&(number, _)| each(gpa | u64::from(offset(number.into()))));
                self.seen.never(page.seen);
            }
        }
    }

    /// Bytes of memory, about: the blocks of a page are few, and so are those of its bytes that were not
    /// translated.
    pub(crate) fn footprint(&self) -> usize {
        self.pages.len() * (size_of::<Page>() + PAGE_SIZE / 2)
            + self.seen.footprint()
            + self.keys.capacity() * size_of::<PageKey>()
    }

    /// Forgets everything. The caller forgets code.
    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.linear.clear();
        self.seen.clear();
        self.keys.clear();
    }
}

/// Of a block, or its twin.
fn number(rip: u64, twin: bool) -> u16 {
    offset(rip) | u16::from(twin) << 15
}

fn offset(rip: u64) -> u16 {
    (rip & !PAGE_MASK) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_page_was_entered_is_known_until_it_is_dropped() {
        const GPA: u64 = 0x1000;
        const RIP: u64 = 0x7000;
        let mut pages = Pages::default();
        pages.enter(GPA, Entered { rip: RIP, code: 1 });
        assert_eq!(pages.entered(GPA, RIP), [], "there is no such page");
        pages.seen(GPA, RIP, 0);
        for number in 0..MAX_ENTERED as u64 + 1 {
            pages.enter(GPA, Entered { rip: RIP + number, code: number });
        }
        pages.enter(GPA, Entered { rip: RIP, code: 7 });
        let entered = pages.entered(GPA + 5, RIP + 5);
        assert_eq!(entered.len(), MAX_ENTERED);
        assert_eq!(entered[..2], [(RIP, 7), (RIP + 1, 1)].map(|(rip, code)| Entered { rip, code }));
        assert_eq!(pages.entered(GPA, RIP + 0x1000), []);
        pages.drop_page(GPA, |_| ());
        pages.seen(GPA, RIP, 0);
        assert_eq!(pages.entered(GPA, RIP), []);
    }
}
