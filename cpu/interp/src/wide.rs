//! Operands of up to 64 bytes: loads and stores that are no single word.
//!
//! What #AC asks of a vector depends on the instruction, so the caller checks that first
//! ([`Cpu::check_alignment`]). A store is translated first ([`Cpu::place`]) and made later, when
//! nothing can stop it any more.

use cpu_mem::{HostPage, PAGE_SIZE};
use cpu_mmu::{Access, AccessKind};

use crate::access::Span;
use crate::cpu::Cpu;
use crate::stop::{Done, Stop};

const OFFSET_MASK: u64 = PAGE_SIZE as u64 - 1;

/// Where a store goes.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// RAM of one page that holds no code, from this offset on.
    Page(HostPage, usize),
    /// Anything else.
    Span(Span),
}

impl Cpu {
    /// Loads from linear memory, inside a page in as few machine loads as the length allows.
    pub(crate) fn read_bytes(&mut self, seg: u8, gla: u64, bytes: &mut [u8]) -> Done {
        let privilege = self.mode.privilege;
        let offset = (gla & OFFSET_MASK) as usize;
        if offset + bytes.len() <= PAGE_SIZE
            && let Some(page) = self.memory.tlb.read(privilege, gla)
        {
            load_words(page, offset, bytes);
            return Ok(());
        }
        let access = Access { kind: AccessKind::Read, privilege };
        let span = self.unaligned_span(seg, gla, bytes.len(), access)?;
        self.read_parts(span, bytes)
    }

    /// Translates a store of `len` bytes to linear memory.
    pub(crate) fn place(&mut self, seg: u8, gla: u64, len: usize) -> Result<Place, Stop> {
        let privilege = self.mode.privilege;
        let offset = (gla & OFFSET_MASK) as usize;
        if offset + len <= PAGE_SIZE
            && let Some(page) = self.memory.tlb.write(privilege, gla)
        {
            return Ok(Place::Page(page, offset));
        }
        let access = Access { kind: AccessKind::Write, privilege };
        Ok(Place::Span(self.unaligned_span(seg, gla, len, access)?))
    }

    /// Makes a store that has been translated with this length.
    pub(crate) fn write_place(&mut self, place: Place, bytes: &[u8]) {
        match place {
            Place::Page(page, offset) => store_words(page, offset, bytes),
            Place::Span(span) => self.write_parts(span, bytes),
        }
    }
}

/// Goes through a slice in the widest chunks that fit; `$move` gets the offset and the chunk.
macro_rules! each_word {
    ($as_chunks:ident, $bytes:ident, $offset:ident, $($len:literal => $move:expr),*) => {
        let (mut at, rest) = ($offset, $bytes);
        $(
            let (chunks, rest) = rest.$as_chunks::<$len>();
            for chunk in chunks {
                $move(at, chunk);
                at += $len;
            }
        )*
        debug_assert!(rest.is_empty());
    };
}

fn load_words(page: HostPage, offset: usize, bytes: &mut [u8]) {
    each_word!(as_chunks_mut, bytes, offset,
        16 => |at, word: &mut [u8; 16]| *word = page.load::<u128>(at).to_le_bytes(),
        8 => |at, word: &mut [u8; 8]| *word = page.load::<u64>(at).to_le_bytes(),
        4 => |at, word: &mut [u8; 4]| *word = page.load::<u32>(at).to_le_bytes(),
        2 => |at, word: &mut [u8; 2]| *word = page.load::<u16>(at).to_le_bytes(),
        1 => |at, word: &mut [u8; 1]| *word = [page.load(at)]
    );
}

fn store_words(page: HostPage, offset: usize, bytes: &[u8]) {
    each_word!(as_chunks, bytes, offset,
        16 => |at, word: &[u8; 16]| page.store(at, u128::from_le_bytes(*word)),
        8 => |at, word: &[u8; 8]| page.store(at, u64::from_le_bytes(*word)),
        4 => |at, word: &[u8; 4]| page.store(at, u32::from_le_bytes(*word)),
        2 => |at, word: &[u8; 2]| page.store(at, u16::from_le_bytes(*word)),
        1 => |at, word: &[u8; 1]| page.store(at, word[0])
    );
}
