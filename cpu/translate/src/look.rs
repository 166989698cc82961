//! The look into the TLB: from linear addresses to those in this process.

use cpu_mem::LINE;
use cpu_mmu::tlb_layout;

use crate::assemble::{ABOVE, Hole, NOT_EQUAL, R10, R11, R15, RSP};
use crate::emit::{Emitter, Missed};

/// Bits of a page offset.
const PAGE_BITS: u32 = 12;

impl Emitter {
    /// From the linear address in R10 to that of `len` bytes in this process. Where the page is not
    /// known for such an access, tier 0 executes the instruction: the hole leads there. The host's flags
    /// are overwritten, but not lost.
    pub(crate) fn translate(&mut self, len: usize, write: bool, aligned: bool) -> Missed {
        self.give_up_flags();
        let hole = self.look(len, write, aligned);
        self.missed(hole)
    }

    /// As [`Self::translate`], but R11 is what has to be added to the linear address, and R10 is free.
    pub(crate) fn translate_distance(&mut self, len: usize, write: bool, aligned: bool) -> Missed {
        self.give_up_flags();
        let hole = self.look_for(tlb_layout::DISTANCE, len, write, aligned);
        self.missed(hole)
    }

    /// As [`Self::translate`], but overwrites the host's flags. What has to be `aligned` is so by a power of
    /// two, its length.
    pub(crate) fn look(&mut self, len: usize, write: bool, aligned: bool) -> Hole {
        self.look_for(tlb_layout::HOST, len, write, aligned)
    }

    /// As [`Self::look`], for the word at this offset of the entry.
    fn look_for(&mut self, word: usize, len: usize, write: bool, aligned: bool) -> Hole {
        let tag = if write { tlb_layout::WRITE } else { tlb_layout::READ };
        let shift = PAGE_BITS - tlb_layout::ENTRY_LEN.trailing_zeros();
        let mask = (tlb_layout::ENTRIES - 1) * tlb_layout::ENTRY_LEN;
        let code = &mut self.code;
        code.bits_from(shift as u8);
        code.and(R11, mask as u32);
        code.xor_indexed(R10, R15, R11, tag as i32);
        let slow = self.check_offset(len, aligned);
        self.code.load_indexed(R11, R15, R11, word as i32);
        slow
    }

    /// The hole is for who finds that R10 is no offset of `len` bytes in a page.
    fn check_offset(&mut self, len: usize, aligned: bool) -> Hole {
        if aligned {
            self.code.test_value(R10, -4096 | (len as i32 - 1));
            self.code.jump_if(NOT_EQUAL)
        } else {
            self.code.compare_value(R10, 4096 - len as i32);
            self.code.jump_if(ABOVE)
        }
    }

    /// As [`Self::translate`], of an address that is known and does not cross the end of its page: the
    /// page's address in this process, into R11. Takes R10.
    pub(crate) fn translate_known(&mut self, address: u64, write: bool) -> Missed {
        self.give_up_flags();
        let tag = if write { tlb_layout::WRITE } else { tlb_layout::READ };
        let number = (address >> PAGE_BITS) as usize % tlb_layout::ENTRIES;
        let entry = (number * tlb_layout::ENTRY_LEN) as i32;
        let page = address & !0xFFF;
        if let Ok(page) = i32::try_from(page as i64) {
            self.code.compare_memory_value(R15, entry + tag as i32, page);
        } else {
            self.code.mov_value(R10, page);
            self.code.compare_memory(R15, entry + tag as i32, R10);
        }
        let slow = self.code.jump_if(NOT_EQUAL);
        self.code.load(R11, R15, entry + tlb_layout::HOST as i32);
        self.missed(slow)
    }

    /// Keeps the linear address in R10, for [`Self::keep_page`].
    pub(crate) fn keep_address(&mut self, slot: i32) {
        self.code.store(RSP, slot, R10);
    }

    /// After [`Self::keep_address`] and a look that was not in vain: keeps the page's addresses.
    pub(crate) fn keep_page(&mut self, slot: i32) {
        self.code.store(RSP, slot + 8, R11);
        self.code.subtract_from_memory(RSP, slot, R10);
    }

    /// As [`Self::look`], in the page that was kept; the hole leads to [`Self::look_elsewhere`].
    pub(crate) fn look_in_page(&mut self, slot: i32, len: usize, aligned: bool) -> (Hole, usize) {
        self.code.xor_memory(R10, RSP, slot);
        let other = self.check_offset(len, aligned);
        self.code.load(R11, RSP, slot + 8);
        (other, self.code.position())
    }

    /// Looks for an address in R10, of which [`Self::look_in_page`] has compared that it is in another page,
    /// and keeps that one; the hole is that of [`Self::look`].
    pub(crate) fn look_elsewhere(
        &mut self,
        slot: i32,
        len: usize,
        write: bool,
        aligned: bool,
    ) -> Hole {
        self.code.xor_memory(R10, RSP, slot);
        self.keep_address(slot);
        let slow = self.look(len, write, aligned);
        self.keep_page(slot);
        slow
    }

    /// Has tier 0 execute an instruction whose locked access of `len` bytes at the address in R10
    /// crosses a line, as [`cpu_mem::LINE`] says: the hole leads there.
    pub(crate) fn check_line(&mut self, len: usize) -> Option<Missed> {
        if len == 1 {
            return None;
        }
        self.give_up_flags();
        let code = &mut self.code;
        code.mov(R11, R10);
        code.and(R11, LINE as u32 - 1);
        code.compare_value(R11, (LINE - len) as i32);
        let hole = code.jump_if(ABOVE);
        Some(self.missed(hole))
    }

    /// Has tier 0 execute an instruction whose memory operand, its address in R10, is not aligned: the
    /// hole leads there.
    pub(crate) fn check_alignment(&mut self, alignment: u8) -> Option<Missed> {
        if alignment <= 1 {
            return None;
        }
        self.give_up_flags();
        self.code.test_low_byte(R10, alignment - 1);
        let hole = self.code.jump_if(NOT_EQUAL);
        Some(self.missed(hole))
    }
}
