//! x87 in translated code: what it executed last, which FNSTENV and FXSAVE show, and FLDCW.
//!
//! The host notes addresses of its own, so translated code notes the guest's: the site of the last
//! instruction that is no control instruction, that of the last one with a memory operand, and that
//! operand's offset. They become the guest's state when Rust runs.

use std::mem::offset_of;

use cpu_interp::Cpu;

use crate::assemble::{NOT_EQUAL, R10, R11, RSP};
use crate::block::BlockMaker;
use crate::callout::{Context, Site, SiteAddress};
use crate::effects::{Item, Kind};
use crate::frame::{CONTEXT, SCRATCH};

/// Exception masks of FCW.
const MASKS: u8 = 0x3F;
/// Bytes of FCW.
const FCW_LEN: usize = 2;

const _: () = assert!(SCRATCH < 128, "FLDCW has a displacement of 8 bits");
const SITE: i32 = (offset_of!(Context, noted) + offset_of!(Noted, site)) as i32;
const OPERAND_SITE: i32 = (offset_of!(Context, noted) + offset_of!(Noted, operand_site)) as i32;
const OPERAND: i32 = (offset_of!(Context, noted) + offset_of!(Noted, operand)) as i32;

/// What translated code has executed since Rust looked.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Noted {
    /// The last instruction, or 0.
    pub site: SiteAddress,
    /// The last one with a memory operand, or 0.
    pub operand_site: SiteAddress,
    /// That operand's offset.
    pub operand: u64,
}

impl Noted {
    /// Has the processor know.
    #[inline]
    pub(crate) fn give(&mut self, cpu: &mut Cpu) {
        if self.site != 0 {
            self.give_sites(cpu);
        }
    }

    #[cold]
    fn give_sites(&mut self, cpu: &mut Cpu) {
        let noted = std::mem::take(self);
        if let Some(Site { op, rip, .. }) = crate::enter::site(noted.site) {
            cpu.note_x87(op, *rip);
        }
        if let Some(Site { op, .. }) = crate::enter::site(noted.operand_site) {
            cpu.note_x87_operand(op, noted.operand);
        }
    }
}

/// Marks instructions whose place is noted after the next one anyway, with nothing in between that
/// could look.
pub(crate) fn plan(items: &mut [Item]) {
    let noted = |item: &Item| item.used.is_some_and(|used| used.noted) && item.kind == Kind::Copied;
    for at in 1..items.len() {
        let next = noted(&items[at]) && !items[at].has_memory();
        items[at - 1].noted_later = next && !items[at - 1].has_memory();
    }
}

impl BlockMaker {
    /// Notes an instruction that has been executed. The offset of its memory operand was stashed.
    pub(crate) fn note(&mut self, item: &Item, site: SiteAddress) {
        if item.noted_later || !item.used.is_some_and(|used| used.noted) {
            return;
        }
        let code = &mut self.emitter.code;
        code.load(R11, RSP, CONTEXT);
        if item.has_memory() {
            code.load(R10, RSP, SCRATCH);
            code.store(R11, OPERAND, R10);
        }
        self.emitter.load_site(site);
        let code = &mut self.emitter.code;
        code.store(R11, SITE, R10);
        if item.has_memory() {
            code.store(R11, OPERAND_SITE, R10);
        }
    }

    /// FLDCW of a value that masks all exceptions, out of the frame: memory could change meanwhile.
    pub(crate) fn load_control(&mut self, item: &Item, site: SiteAddress) {
        self.emitter.address(&item.op, &item.instruction);
        let missing = self.access(FCW_LEN, false);
        let code = &mut self.emitter.code;
        // movzx r10d, word [r11 + r10]
        code.bytes(&[0x47, 0x0F, 0xB7, 0x14, 0x13]);
        code.store(RSP, SCRATCH, R10);
        // not r10d
        code.bytes(&[0x41, 0xF7, 0xD2]);
        code.test_low_byte(R10, MASKS);
        let unmasked = code.jump_if(NOT_EQUAL);
        let unmasked = self.emitter.missed(unmasked);
        let code = &mut self.emitter.code;
        // fldcw [rsp + SCRATCH]
        code.bytes(&[0xD9, 0x6C, 0x24, SCRATCH as u8]);
        self.slow(missing, site, item.last);
        self.slow(unmasked, site, item.last);
    }
}
