//! Blocks of decoded instructions, by guest-physical position and code size.
//!
//! Laws: a block stays inside a page; it is used only while the bytes it was decoded from are in
//! memory. This processor's stores are noticed through [`crate::code_map::CodeMap`]; those of
//! others by comparing the bytes again when the epoch of code has moved on.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use cpu_mem::{AddressHasher, HostPage, PAGE_SIZE};

use super::digest::{Decoded, MAX_LEN, decode_one};
use crate::features::Features;
use crate::native::Native;
use crate::op::Op;

/// Most instructions in a block.
const MAX_OPS: usize = 64;
/// Most bytes in a block.
const MAX_BYTES: usize = MAX_OPS * MAX_LEN;
/// Blocks kept before all are dropped.
const MAX_BLOCKS: usize = 1 << 16;
/// Blocks of 64-bit code kept before they are dropped, where another tier executes what runs often.
const MAX_RARE_BLOCKS: usize = 1 << 12;
/// Entries of the table by linear address.
const RECENT: usize = 4096;
/// Instructions across pages that are remembered.
const CROSSINGS: usize = 256;

/// Straight-line code inside one page.
#[derive(Default)]
pub struct Block {
    /// The instructions; empty for a free block.
    pub ops: Box<[Op]>,
    bytes: Box<[u8]>,
    /// How many.
    len: u16,
    position: u64,
    /// The epoch of code in which its bytes were compared.
    checked: Option<u32>,
}

impl Block {
    /// Length of the code in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.len.into()
    }
}

/// Where a linear position led the last time.
#[derive(Clone, Copy)]
struct Recent {
    gla: u64,
    key: u32,
    epoch: u32,
    block: u32,
}

/// Matches no position: no mode has key 0.
const NOWHERE: Recent = Recent { gla: 0, key: 0, epoch: 0, block: SCRATCH };

/// All blocks of one processor.
pub struct BlockCache {
    blocks: Vec<Block>,
    /// How many are of 64-bit code, and how many of these may be.
    rare: usize,
    most_rare: usize,
    free: Vec<u32>,
    by_position: HashMap<u64, u32, BuildHasherDefault<AddressHasher>>,
    by_page: HashMap<u64, Vec<u32>, BuildHasherDefault<AddressHasher>>,
    recent: Box<[Recent; RECENT]>,
    crossings: Box<[Option<Crossing>; CROSSINGS]>,
}

/// An instruction that crosses the end of a page, at a linear position.
#[derive(Clone, Copy)]
struct Crossing {
    gla: u64,
    key: u32,
    bytes: [u8; MAX_LEN],
    op: Op,
}

/// What is known of an instruction of which some bytes are known.
#[derive(Clone, Copy)]
pub enum Crossed {
    /// It is this one.
    Op(Op),
    /// The bytes are the start of a known one.
    Longer,
    /// Nothing.
    Unknown,
}

/// The block that holds an instruction decoded for one use.
pub(crate) const SCRATCH: u32 = 0;

impl BlockCache {
    /// No blocks.
    #[must_use]
    pub fn new() -> Self {
        BlockCache {
            blocks: vec![Block::default()],
            rare: 0,
            most_rare: MAX_BLOCKS,
            free: Vec::new(),
            by_position: HashMap::default(),
            by_page: HashMap::default(),
            recent: Box::new([NOWHERE; RECENT]),
            crossings: Box::new([const { None }; CROSSINGS]),
        }
    }

    /// Keeps few blocks of 64-bit code from now on: another tier executes what runs often.
    pub fn keep_few(&mut self) {
        self.most_rare = MAX_RARE_BLOCKS;
    }

    /// A block by number.
    #[inline(always)]
    #[must_use]
    pub fn block(&self, number: u32) -> &Block {
        &self.blocks[number as usize]
    }

    /// The block at a linear position, if it was used in this epoch. `key` is the mode's.
    #[inline(always)]
    #[must_use]
    pub fn recent(&self, gla: u64, key: u32, epoch: u32) -> Option<u32> {
        let entry = &self.recent[gla as usize % RECENT];
        (entry.gla == gla && entry.key == key && entry.epoch == epoch).then_some(entry.block)
    }

    /// Remembers where a linear position leads.
    pub fn remember(&mut self, gla: u64, key: u32, epoch: u32, block: u32) {
        self.recent[gla as usize % RECENT] = Recent { gla, key, epoch, block };
    }

    /// The block at a guest-physical position, if there is one.
    #[must_use]
    pub fn lookup(&self, gpa: u64, bits: u8) -> Option<u32> {
        self.by_position.get(&position(gpa, bits)).copied()
    }

    /// Whether the bytes of a block are known to be those in memory, in this epoch of code.
    #[must_use]
    pub fn is_checked(&self, number: u32, epoch: u32) -> bool {
        self.blocks[number as usize].checked == Some(epoch)
    }

    /// Compares the bytes of a block with those in `page`, at the offset of `gpa`. If they differ it is
    /// dropped, and the caller moves the epoch on.
    pub fn check(&mut self, number: u32, gpa: u64, page: HostPage, epoch: u32) -> bool {
        let block = &mut self.blocks[number as usize];
        if page.has(gpa as usize % PAGE_SIZE, &block.bytes) {
            block.checked = Some(epoch);
            return true;
        }
        self.drop_block(number);
        false
    }

    /// Compares all blocks of the page around `gpa` again, and drops those that differ. True if there
    /// are any: the caller moves the epoch on.
    pub fn check_page(&mut self, gpa: u64, page: HostPage) -> bool {
        let numbers = self.by_page.get(&page_of(gpa)).into_iter().flatten();
        let stale: Vec<u32> = numbers
            .copied()
            .filter(|&number| {
                let block = &self.blocks[number as usize];
                let at = (block.position >> POSITION_SHIFT) as usize % PAGE_SIZE;
                !page.has(at, &block.bytes)
            })
            .collect();
        for &number in &stale {
            self.drop_block(number);
        }
        !stale.is_empty()
    }

    /// Decodes the block at a guest-physical position. None if its first instruction crosses the
    /// page end or raises an exception. It is yet to be [checked](Self::check).
    pub fn decode(
        &mut self,
        gpa: u64,
        bits: u8,
        page: HostPage,
        features: &Features,
        native: &mut Native,
    ) -> Option<u32> {
        let start = gpa as usize % PAGE_SIZE;
        let mut bytes = [0; MAX_BYTES];
        let bytes = &mut bytes[..MAX_BYTES.min(PAGE_SIZE - start)];
        page.copy_out(start, bytes);
        let (ops, len) = decode_run(bytes, bits, features, native);
        if ops.is_empty() {
            return None;
        }
        if self.by_position.len() >= MAX_BLOCKS {
            self.clear();
        } else if is_rare(bits) && self.rare >= self.most_rare {
            self.drop_rare();
        }
        let position = position(gpa, bits);
        let bytes = &bytes[..len];
        let number = self.insert(Block {
            ops: ops.into(),
            bytes: bytes.into(),
            len: len as u16,
            position,
            checked: None,
        });
        self.by_position.insert(position, number);
        self.by_page.entry(page_of(gpa)).or_default().push(number);
        Some(number)
    }

    /// Whether an instruction that crosses the end of a page is remembered at a linear position.
    #[must_use]
    pub fn has_crossing(&self, gla: u64, key: u32) -> bool {
        let crossing = &self.crossings[crossing_index(gla)];
        crossing.as_ref().is_some_and(|known| known.gla == gla && known.key == key)
    }

    /// What the instruction at a linear position is, of which `bytes` are in memory now.
    #[must_use]
    pub fn crossing(&self, gla: u64, key: u32, bytes: &[u8]) -> Crossed {
        let known = self.crossings[crossing_index(gla)].as_ref();
        let Some(known) = known.filter(|known| known.gla == gla && known.key == key) else {
            return Crossed::Unknown;
        };
        let len = usize::from(known.op.len);
        match bytes.get(..len) {
            Some(bytes) if *bytes == known.bytes[..len] => Crossed::Op(known.op),
            None if *bytes == known.bytes[..bytes.len()] => Crossed::Longer,
            _ => Crossed::Unknown,
        }
    }

    /// Remembers the instruction at a linear position, or that there is none across pages.
    pub fn set_crossing(&mut self, gla: u64, key: u32, found: Option<(Op, [u8; MAX_LEN])>) {
        self.crossings[crossing_index(gla)] =
            found.map(|(op, bytes)| Crossing { gla, key, bytes, op });
    }

    /// Puts one instruction into the scratch block.
    pub(crate) fn set_scratch(&mut self, op: Op) -> u32 {
        let scratch = &mut self.blocks[SCRATCH as usize];
        match scratch.ops.first_mut() {
            Some(first) => *first = op,
            None => scratch.ops = Box::new([op]),
        }
        // Nobody compares its bytes with memory.
        scratch.len = op.len.into();
        SCRATCH
    }

    /// Drops the blocks of the page around `gpa`. The caller moves the epoch on.
    pub fn drop_page(&mut self, gpa: u64) {
        let Some(numbers) = self.by_page.remove(&page_of(gpa)) else {
            return;
        };
        for number in numbers {
            self.free_block(number);
        }
    }

    fn drop_block(&mut self, number: u32) {
        let page = page_of(self.blocks[number as usize].position >> POSITION_SHIFT);
        if let Some(numbers) = self.by_page.get_mut(&page) {
            numbers.retain(|&other| other != number);
        }
        self.free_block(number);
    }

    fn free_block(&mut self, number: u32) {
        let block = std::mem::take(&mut self.blocks[number as usize]);
        self.by_position.remove(&block.position);
        self.rare -= usize::from(is_rare(block.position as u8));
        self.free.push(number);
    }

    /// Drops the blocks of 64-bit code. What was remembered of them finds others or nothing, so it goes
    /// as well.
    fn drop_rare(&mut self) {
        self.recent.fill(NOWHERE);
        for number in SCRATCH + 1..self.blocks.len() as u32 {
            let block = &self.blocks[number as usize];
            if !block.ops.is_empty() && is_rare(block.position as u8) {
                self.drop_block(number);
            }
        }
    }

    /// Drops every block.
    pub fn clear(&mut self) {
        self.rare = 0;
        self.recent.fill(NOWHERE);
        self.crossings.fill(None);
        self.blocks.truncate(1);
        self.free.clear();
        self.by_position.clear();
        self.by_page.clear();
    }

    fn insert(&mut self, block: Block) -> u32 {
        self.rare += usize::from(is_rare(block.position as u8));
        if let Some(number) = self.free.pop() {
            self.blocks[number as usize] = block;
            return number;
        }
        self.blocks.push(block);
        (self.blocks.len() - 1) as u32
    }
}

impl Default for BlockCache {
    fn default() -> Self {
        Self::new()
    }
}

/// Whole instructions from the start of `bytes`, and how many bytes they take.
fn decode_run(
    bytes: &[u8],
    bits: u8,
    features: &Features,
    native: &mut Native,
) -> (Vec<Op>, usize) {
    let mut ops = Vec::new();
    let mut at = 0;
    while ops.len() < MAX_OPS && at < bytes.len() {
        let Decoded::Op { op, last } = decode_one(&bytes[at..], bits, features, native) else {
            break;
        };
        at += usize::from(op.len);
        ops.push(op);
        if last {
            break;
        }
    }
    (ops, at)
}

/// Nearly all begin in the last bytes of their pages.
fn crossing_index(gla: u64) -> usize {
    ((gla / PAGE_SIZE as u64) ^ (gla << 4)) as usize % CROSSINGS
}

fn page_of(gpa: u64) -> u64 {
    gpa & !(PAGE_SIZE as u64 - 1)
}

const POSITION_SHIFT: u32 = 8;

/// Whether another tier may execute code of this size.
fn is_rare(bits: u8) -> bool {
    bits == 64
}

/// Key of a block: code size in the bits that a 45-bit address leaves free.
fn position(gpa: u64, bits: u8) -> u64 {
    gpa << POSITION_SHIFT | u64::from(bits)
}
