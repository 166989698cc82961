//! The x87 part of the state and its forms in the areas of FXSAVE and XSAVE.
//!
//! SDM volume 1, "x87 State" of "Managing State Using the XSAVE Feature Set". Laws: the control word
//! holds only bits that exist; the error summary of the status word follows from flags and masks;
//! bytes beyond bit 79 of a register are zero.

use crate::state::{FCW, FOP, FPU_DP, FPU_IP, FSW, FTW, FpuState, MXCSR};

/// Length of the x87 part of an FXSAVE area; MXCSR and its mask lie inside it and are no part of it.
pub const X87_LEN: usize = 160;
/// Offset of ST(0).
const ST0: usize = 32;
const ST_PITCH: usize = 16;
const ST_LEN: usize = 10;
const ST_COUNT: usize = 8;

/// FCW after FNINIT.
const FCW_INIT: u16 = 0x37F;
/// Bits of FCW that can be set, and the one that always is.
const FCW_LEGAL: u16 = 0x1F3F;
const FCW_FIXED_ONE: u16 = 0x40;
/// Exception masks in FCW, exception flags in FSW.
const EXCEPTIONS: u16 = 0x3F;
/// FSW: error summary, and busy, which repeats it.
const ERROR_SUMMARY: u16 = 0x80;
const BUSY: u16 = 0x8000;
/// Tags of the full tag word.
const TAG_VALID: u16 = 0;
const TAG_ZERO: u16 = 1;
const TAG_SPECIAL: u16 = 2;
const TAG_EMPTY: u16 = 3;
/// FSW: top of stack.
const TOP_SHIFT: u32 = 11;
/// Bits of FOP.
const OPCODE: u16 = 0x7FF;

/// The last x87 instruction that was no control instruction, and its memory operand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct X87Pointers {
    /// Offset of the instruction, prefixes included (FIP).
    pub ip: u64,
    /// Offset of the memory operand (FDP).
    pub dp: u64,
    /// Selector of the instruction (FCS).
    pub cs: u16,
    /// Selector of the memory operand (FDS).
    pub ds: u16,
    /// Low bits of the first opcode byte, then the second byte (FOP).
    pub opcode: u16,
}

/// How an image holds the pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointerForm {
    /// 32-bit offsets with selectors.
    Narrow,
    /// 64-bit offsets, no selectors: REX.W.
    Wide,
}

impl FpuState {
    /// FNINIT: control, status, tags and pointers; the registers' contents stay.
    pub fn init_x87(&mut self) {
        self.turn_stack(0);
        self.legacy[..MXCSR].fill(0);
        self.set_u16(FCW, FCW_INIT);
        self.pointers = X87Pointers::default();
    }

    /// The initial configuration of XRSTOR: as after FNINIT, with registers of zero.
    pub fn clear_x87(&mut self) {
        self.init_x87();
        self.legacy[ST0..X87_LEN].fill(0);
    }

    /// Whether the x87 part is in the initial configuration of XRSTOR.
    #[must_use]
    pub fn x87_is_clear(&self) -> bool {
        self.u16(FCW) == FCW_INIT
            && self.u16(FSW) == 0
            && self.legacy[FTW] == 0
            && self.pointers == X87Pointers::default()
            && self.legacy[ST0..X87_LEN].iter().all(|&byte| byte == 0)
    }

    /// Whether an unmasked exception waits to be reported (FSW.ES).
    #[must_use]
    pub fn x87_error(&self) -> bool {
        self.u16(FSW) & ERROR_SUMMARY != 0
    }

    /// FLDENV: control, status with a new top of stack, and the full tag word; the registers'
    /// contents stay where they are beneath the stack.
    pub fn set_environment(&mut self, control: u16, status: u16, tags: u16) {
        self.turn_stack(top(status));
        self.set_control_status(control, status);
        self.set_full_tags(tags);
    }

    /// Reorders the registers, which are kept from the top of stack on, for another top.
    fn turn_stack(&mut self, new_top: usize) {
        let by = (new_top + ST_COUNT - top(self.u16(FSW))) % ST_COUNT;
        self.legacy[ST0..X87_LEN].rotate_left(by * ST_PITCH);
    }

    /// Sets control and status word: unknown control bits are dropped, the error summary is
    /// computed anew.
    pub fn set_control_status(&mut self, control: u16, status: u16) {
        let control = (control & FCW_LEGAL) | FCW_FIXED_ONE;
        let summary = ERROR_SUMMARY | BUSY;
        let error = status & !control & EXCEPTIONS != 0;
        self.set_u16(FCW, control);
        self.set_u16(FSW, (status & !summary) | if error { summary } else { 0 });
    }

    /// The x87 part of an FXSAVE area, with these pointers in it.
    #[must_use]
    pub fn x87(&self, pointers: &X87Pointers, form: PointerForm) -> [u8; X87_LEN] {
        let mut image = [0; X87_LEN];
        image[..FTW + 1].copy_from_slice(&self.legacy[..FTW + 1]);
        image[FOP..FOP + 2].copy_from_slice(&pointers.opcode.to_le_bytes());
        let pair = |offset: u64, selector: u16| match form {
            PointerForm::Wide => offset.to_le_bytes(),
            PointerForm::Narrow => (offset & 0xFFFF_FFFF | u64::from(selector) << 32).to_le_bytes(),
        };
        image[FPU_IP..FPU_IP + 8].copy_from_slice(&pair(pointers.ip, pointers.cs));
        image[FPU_DP..FPU_DP + 8].copy_from_slice(&pair(pointers.dp, pointers.ds));
        image[ST0..].copy_from_slice(&self.legacy[ST0..X87_LEN]);
        image
    }

    /// Takes over the x87 part of an FXSAVE area. Its last-instruction pointers are taken as they
    /// stand.
    pub fn set_x87(&mut self, image: &[u8; X87_LEN], form: PointerForm) {
        let u16_at = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
        let u64_at = |at: usize| {
            (0..4).fold(0, |value, part| value | u64::from(u16_at(at + 2 * part)) << (16 * part))
        };
        self.set_control_status(u16_at(FCW), u16_at(FSW));
        self.legacy[FTW] = image[FTW];
        let split = |at: usize| match form {
            PointerForm::Wide => (u64_at(at), 0),
            PointerForm::Narrow => (u64_at(at) & 0xFFFF_FFFF, u16_at(at + 4)),
        };
        let ((ip, cs), (dp, ds)) = (split(FPU_IP), split(FPU_DP));
        self.pointers = X87Pointers { ip, dp, cs, ds, opcode: u16_at(FOP) & OPCODE };
        for at in (ST0..X87_LEN).step_by(ST_PITCH) {
            self.legacy[at..at + ST_PITCH].fill(0);
            self.legacy[at..at + ST_LEN].copy_from_slice(&image[at..at + ST_LEN]);
        }
    }

    /// The tag word with two bits a register: valid, zero, special or empty.
    #[must_use]
    pub fn full_tags(&self) -> u16 {
        let top = top(self.u16(FSW));
        (0..ST_COUNT).fold(0, |tags, register| {
            let tag = if self.legacy[FTW] >> register & 1 == 0 {
                TAG_EMPTY
            } else {
                tag(&self.st(register + ST_COUNT - top))
            };
            tags | tag << (2 * register)
        })
    }

    fn set_full_tags(&mut self, tags: u16) {
        self.legacy[FTW] = (0..ST_COUNT).fold(0, |abridged, register| {
            let empty = tags >> (2 * register) & TAG_EMPTY == TAG_EMPTY;
            abridged | u8::from(!empty) << register
        });
    }

    /// ST(`number`) as 80 bits.
    #[must_use]
    pub fn st(&self, number: usize) -> [u8; ST_LEN] {
        let at = ST0 + (number % ST_COUNT) * ST_PITCH;
        std::array::from_fn(|byte| self.legacy[at + byte])
    }

    /// Sets ST(`number`); its tag stays.
    pub fn set_st(&mut self, number: usize, value: &[u8; ST_LEN]) {
        let at = ST0 + (number % ST_COUNT) * ST_PITCH;
        self.legacy[at..at + ST_LEN].copy_from_slice(value);
    }
}

fn top(status: u16) -> usize {
    usize::from(status >> TOP_SHIFT & 7)
}

/// The tag of a register's contents: special are infinities, NaNs, denormals and what is no
/// number since the 80387.
fn tag(value: &[u8; ST_LEN]) -> u16 {
    let exponent = u16::from_le_bytes([value[8], value[9]]) & 0x7FFF;
    let integer_bit = value[7] & 0x80 != 0;
    match exponent {
        0 if value[..8] == [0; 8] => TAG_ZERO,
        1..=0x7FFE if integer_bit => TAG_VALID,
        _ => TAG_SPECIAL,
    }
}
