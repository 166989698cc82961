//! Vector registers in translated code.
//!
//! XMM, YMM or ZMM registers, masks and MXCSR are loaded when a block is entered that uses them, and
//! stay until something leaves to Rust, whose code has them for itself. [`crate::frame::Frame::vectors`]
//! is how much is loaded: 0, or one of the numbers here. A block is made of stretches that callouts
//! separate; each wants the most that any of its instructions does.
//!
//! Law: registers are loaded only while the operating system lets them be used and no SIMD exception is
//! unmasked, so a copied instruction raises nothing of its own. Both can change in Rust alone. Where
//! that is not so, tier 0 executes the block.

use cpu_host::MXCSR;
use cpu_interp::{Cpu, VectorClass, VectorUse};

use crate::assemble::{Hole, R10};
use crate::effects::{Item, Kind};
use crate::emit::{Emitter, FlagState};
use crate::frame::{LOAD_VECTORS, VECTORS};
use crate::pages::NO_VECTORS;

/// XMM0 to XMM15; what is above is in memory.
pub(crate) const XMM: u8 = 1;
/// YMM0 to YMM15; what is above is zero, in memory as well.
pub(crate) const YMM: u8 = 2;
/// As [`YMM`] for who asks, but all registers are loaded: what is above YMM0 to YMM15 is not zero.
pub(crate) const YMM_OF_ALL: u8 = 3;
/// All registers and masks.
pub(crate) const ZMM: u8 = 4;

/// Exception masks of MXCSR.
const MASKS: u32 = 0x1F80;
/// Bytes of a YMM register.
const YMM_LEN: usize = 32;
/// Registers that VEX instructions have names for.
const YMM_COUNT: usize = 16;
/// `jae`
const NOT_BELOW: u8 = 3;
/// `jne`
const NOT_EQUAL: u8 = 5;

/// What an instruction wants to be loaded.
pub(crate) fn wanted(vectors: &VectorUse) -> u8 {
    match vectors.class {
        VectorClass::Sse => XMM,
        VectorClass::Avx => YMM,
        VectorClass::Avx512 => ZMM,
    }
}

/// Says for each instruction what is to be loaded behind it. Returns what is to be loaded where the
/// block is entered, and what is where it ends.
pub(crate) fn plan(items: &mut [Item]) -> (u8, u8) {
    let (mut first, mut last) = (None, 0);
    for stretch in items.chunk_by_mut(|_, next| next.kind != Kind::Callout) {
        let copied = |item: &&Item| item.kind != Kind::Callout;
        let wanted = stretch.iter().filter(copied).map(|item| item.vectors).max().unwrap_or(0);
        let begins = stretch.first().is_some_and(|item| copied(&item));
        stretch.iter_mut().for_each(|item| item.vectors = wanted);
        first.get_or_insert(if begins { wanted } else { 0 });
        last = wanted;
    }
    (first.unwrap_or(0), last)
}

/// What is loaded for who wants `wanted`; None: it cannot be.
pub(crate) fn grant(cpu: &Cpu, wanted: u8) -> Option<u8> {
    let may = |class| cpu.may_use(class);
    if !may(VectorClass::Sse) || cpu.fpu.u32(MXCSR) & MASKS != MASKS {
        return None;
    }
    match wanted {
        XMM => Some(XMM),
        YMM if !may(VectorClass::Avx) => None,
        YMM if is_clear_above_ymm(cpu) => Some(YMM),
        _ if !has_zmm() => None,
        YMM => Some(YMM_OF_ALL),
        _ => may(VectorClass::Avx512).then_some(ZMM),
    }
}

fn is_clear_above_ymm(cpu: &Cpu) -> bool {
    let upper = cpu.fpu.zmm[..YMM_COUNT].iter().flat_map(|zmm| &zmm[YMM_LEN..]);
    upper.fold(0, |all, byte| all | byte) == 0
}

/// The host moves whole registers and whole masks.
fn has_zmm() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

/// Entries of a block that wants something to be loaded.
#[derive(Default)]
pub(crate) struct Checked {
    /// For flags in the host's RFLAGS.
    pub host: usize,
    /// For flags in the frame.
    pub frame: usize,
}

impl Emitter {
    /// Goes on at `entry`, an entry for flags in the frame, once `wanted` is loaded. The flags are in
    /// the frame. If it cannot be loaded, leaves at `rip`.
    pub(crate) fn check_vectors(&mut self, wanted: u8, entry: usize, rip: u64) -> Checked {
        let frame = self.code.position();
        self.code.compare_byte(VECTORS, wanted);
        let loaded = self.code.jump_if(NOT_BELOW);
        self.code.lead(loaded, entry);
        self.code.mov_value(R10, wanted.into());
        self.code.call_frame(LOAD_VECTORS);
        self.code.compare_byte(VECTORS, 0);
        let loaded = self.code.jump_if(NOT_EQUAL);
        self.code.lead(loaded, entry);
        self.state = FlagState::FRAME;
        self.leave_through(NO_VECTORS, rip);
        let host = self.code.position();
        self.state = FlagState::HOST;
        self.save_flags();
        self.code.jump_to(frame);
        Checked { host, frame }
    }

    /// Has tier 0 execute an instruction whose memory operand, its address in R10, is not aligned: the
    /// hole leads there. Flags are in the frame afterwards.
    pub(crate) fn check_alignment(&mut self, alignment: u8) -> Option<Hole> {
        if alignment <= 1 {
            return None;
        }
        self.save_flags_beside_address();
        self.code.test_low_byte(R10, alignment - 1);
        Some(self.code.jump_if(NOT_EQUAL))
    }
}
