//! Registers of vectors and x87 in translated code.
//!
//! XMM, YMM or ZMM registers, masks and MXCSR are loaded when a block is entered that uses them, those of
//! x87 and MMX likewise, and stay until something leaves to Rust, whose code has them for itself.
//! [`crate::frame::Frame`] says how much is loaded. A block is made of stretches that callouts separate;
//! each wants the most that any of its instructions does.
//!
//! Law: registers are loaded only while the operating system lets them be used and no exception of
//! theirs is unmasked, so a copied instruction raises nothing of its own. Both can change in Rust alone.
//! Where that is not so, tier 0 executes the block.

use cpu_host::{MXCSR, MXCSR_LEGAL};
use cpu_interp::{Cpu, HostUse, VectorClass};

use crate::assemble::{BELOW, EQUAL, NOT_EQUAL, R10};
use crate::effects::{Item, Kind};
use crate::emit::Emitter;
use crate::flags::FlagState;
use crate::frame::{LOAD_REGISTERS, VECTORS, X87};

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
/// The bit for x87 in a word that names registers.
const X87_BIT: u32 = 8;

/// Registers that are loaded, or to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    /// 0, or a number from above.
    pub vectors: u8,
    /// Those of x87.
    pub x87: bool,
}

impl Registers {
    pub(crate) const NONE: Self = Registers { vectors: 0, x87: false };

    /// What an instruction wants.
    pub(crate) fn of(used: &HostUse) -> Self {
        let vectors = match used.class {
            None => 0,
            Some(VectorClass::Sse) => XMM,
            Some(VectorClass::Avx) => YMM,
            Some(VectorClass::Avx512) => ZMM,
        };
        Registers { vectors, x87: used.x87 }
    }

    /// Nothing is missing for who wants `wanted`.
    pub(crate) fn cover(self, wanted: Self) -> bool {
        self.vectors >= wanted.vectors && (self.x87 || !wanted.x87)
    }

    /// Both.
    pub(crate) fn with(self, other: Self) -> Self {
        Registers { vectors: self.vectors.max(other.vectors), x87: self.x87 || other.x87 }
    }

    /// As a word.
    pub(crate) fn word(self) -> u64 {
        u64::from(self.vectors) | u64::from(self.x87) << X87_BIT
    }

    /// Of a word.
    pub(crate) fn from_word(word: u64) -> Self {
        Registers { vectors: word as u8, x87: word >> X87_BIT != 0 }
    }
}

/// Says for each instruction what is to be loaded behind it. Returns what is to be loaded where the
/// block is entered, and what is where it ends.
pub(crate) fn plan(items: &mut [Item]) -> (Registers, Registers) {
    let (mut first, mut last) = (None, Registers::NONE);
    for stretch in items.chunk_by_mut(|_, next| next.kind != Kind::Callout) {
        let begins = stretch.first().is_some_and(|item| item.kind != Kind::Callout);
        let copied = stretch.iter().filter(|item| item.kind != Kind::Callout);
        let used = copied.filter_map(|item| item.used.as_ref());
        let wanted = used.map(Registers::of).fold(Registers::NONE, Registers::with);
        stretch.iter_mut().for_each(|item| item.loaded = wanted);
        first.get_or_insert(if begins { wanted } else { Registers::NONE });
        last = wanted;
    }
    (first.unwrap_or_default(), last)
}

/// What is loaded for who wants `wanted`; None: it cannot be.
pub(crate) fn grant(cpu: &Cpu, wanted: Registers) -> Option<Registers> {
    if cpu.fpu.u32(MXCSR) & !MXCSR_LEGAL != 0 || (wanted.x87 && !cpu.may_use_x87()) {
        return None;
    }
    Some(Registers { vectors: grant_vectors(cpu, wanted.vectors)?, ..wanted })
}

fn grant_vectors(cpu: &Cpu, wanted: u8) -> Option<u8> {
    if wanted == 0 {
        return Some(0);
    }
    let may = |class| cpu.may_use(class);
    if !may(VectorClass::Sse) || cpu.fpu.u32(MXCSR) & MASKS != MASKS {
        return None;
    }
    match wanted {
        XMM => Some(XMM),
        YMM if !may(VectorClass::Avx) => None,
        YMM if is_clear_above_ymm(cpu) => Some(YMM),
        _ if !has_zmm() => None,
        YMM | YMM_OF_ALL => may(VectorClass::Avx).then_some(YMM_OF_ALL),
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
    pub(crate) fn check_loaded(&mut self, wanted: Registers, entry: usize, rip: u64) -> Checked {
        let frame = self.code.position();
        let mut missing = [None, None];
        if wanted.vectors != 0 {
            self.code.compare_byte(VECTORS, wanted.vectors);
            missing[0] = Some(self.code.jump_if(BELOW));
        }
        if wanted.x87 {
            self.code.compare_byte(X87, 0);
            missing[1] = Some(self.code.jump_if(EQUAL));
        }
        self.code.jump_to(entry);
        missing.into_iter().flatten().for_each(|hole| self.code.here(hole));
        self.code.mov_value(R10, wanted.word());
        self.code.call_frame(LOAD_REGISTERS);
        self.code.compare_byte(if wanted.x87 { X87 } else { VECTORS }, 0);
        let loaded = self.code.jump_if(NOT_EQUAL);
        self.code.lead(loaded, entry);
        self.state = FlagState::FRAME;
        self.leave_to_interpret(rip);
        let host = self.code.position();
        self.state = FlagState::HOST;
        self.save_flags();
        self.code.jump_to(frame);
        Checked { host, frame }
    }
}
