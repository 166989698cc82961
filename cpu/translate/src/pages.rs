//! Translated code by the page that it was made from.
//!
//! A page is a guest-physical one at a linear address, since translated code has linear addresses in
//! it. Its blocks are used only while the bytes that they were made from are in memory; they are
//! compared once in each epoch ([`cpu_interp::Cpu::epoch`]), and stores of this processor are noticed
//! by `cpu_interp`'s code map. Branches inside of a page lead from block to block without a look,
//! which is why the page is compared as a whole.

use std::collections::HashMap;

use cpu_mem::{HostPage, PAGE_SIZE};

use crate::arena::At;
use crate::emit::FlagState;

const PAGE_MASK: u64 = !(PAGE_SIZE as u64 - 1);
const GRANULE: usize = 64;

/// The entries of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// For flags in the host's RFLAGS.
    pub host: At,
    /// For flags in the frame.
    pub frame: At,
    /// For flags in both.
    pub both: At,
}

impl Block {
    /// The entry for a branch that comes with the flags there.
    pub(crate) fn entry(&self, state: FlagState) -> At {
        match state {
            FlagState { host: true, frame: true } => self.both,
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

/// What was made from a page.
struct Page {
    blocks: HashMap<u16, Block>,
    /// What the bytes were; only those of translated granules count.
    bytes: Box<[u8; PAGE_SIZE]>,
    granules: u64,
    epoch: u32,
}

impl Page {
    fn is_unchanged(&self, page: HostPage) -> bool {
        let mut now = [0; GRANULE];
        (0..PAGE_SIZE / GRANULE).filter(|number| self.granules >> number & 1 != 0).all(|number| {
            let at = number * GRANULE;
            page.copy_out(at, &mut now);
            now == self.bytes[at..at + GRANULE]
        })
    }
}

/// All pages.
#[derive(Default)]
pub(crate) struct Pages {
    pages: HashMap<PageKey, Page>,
    /// Linear addresses of the pages of a guest-physical one.
    linear: HashMap<u64, Vec<u64>>,
}

impl Pages {
    /// The block at these addresses, unless the page has changed.
    pub(crate) fn find(&mut self, gpa: u64, rip: u64, page: HostPage, epoch: u32) -> Option<Block> {
        let known = self.pages.get_mut(&key(gpa, rip))?;
        if known.epoch != epoch {
            if !known.is_unchanged(page) {
                self.drop_page(gpa);
                return None;
            }
            known.epoch = epoch;
        }
        known.blocks.get(&offset(rip)).copied()
    }

    /// Remembers a block made from `bytes`. Nothing of the page is known that differs from memory:
    /// [`Self::find`] was asked before.
    pub(crate) fn insert(
        &mut self,
        gpa: u64,
        rip: u64,
        bytes: &[u8],
        block: Block,
        source: Source,
    ) {
        let key = key(gpa, rip);
        let page = self.pages.entry(key).or_insert_with(|| {
            self.linear.entry(key.0).or_default().push(key.1);
            Page {
                blocks: HashMap::new(),
                bytes: Box::new([0; PAGE_SIZE]),
                granules: 0,
                epoch: source.epoch,
            }
        });
        let first = usize::from(offset(rip)) / GRANULE;
        let last = (usize::from(offset(rip)) + bytes.len().max(1) - 1) / GRANULE;
        for number in first..=last {
            if page.granules >> number & 1 == 0 {
                page.granules |= 1 << number;
                let at = number * GRANULE;
                source.page.copy_out(at, &mut page.bytes[at..at + GRANULE]);
            }
        }
        // What was translated counts, not what memory holds by now.
        page.bytes[usize::from(offset(rip))..][..bytes.len()].copy_from_slice(bytes);
        page.blocks.insert(offset(rip), block);
    }

    /// Forgets what was made from the guest-physical page around `gpa`. The caller forgets jumps.
    pub(crate) fn drop_page(&mut self, gpa: u64) {
        let gpa = gpa & PAGE_MASK;
        for linear in self.linear.remove(&gpa).unwrap_or_default() {
            self.pages.remove(&(gpa, linear));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.linear.clear();
    }
}

/// Where a block was made from.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub page: HostPage,
    pub epoch: u32,
}

fn offset(rip: u64) -> u16 {
    (rip & !PAGE_MASK) as u16
}
