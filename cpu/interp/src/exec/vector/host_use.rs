//! For another tier: which instructions the host can execute on registers that are the guest's own,
//! with a memory operand all of which they may access.

use iced_x86::{CpuidFeature, Instruction, Mnemonic, OpKind};

use super::classify::{active, alignment};
use super::{Class, available, class, gather, masked_move, special, uses_vectors};
use crate::cpu::Cpu;
use crate::exec::x87;
use crate::native::Active;
use crate::op::Op;

/// What some hosts ask of the operands of SHA instructions.
const SHA_ALIGNMENT: u8 = 16;

/// Registers that the operating system lets be used together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VectorClass {
    /// XMM0 to XMM15 by legacy instructions.
    Sse,
    /// Their 256 bits by VEX instructions, which clear what is above.
    Avx,
    /// All registers of 512 bits, and masks.
    Avx512,
}

/// What an instruction asks for, beyond the pages of its memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostUse {
    /// Its vector registers.
    pub class: Option<VectorClass>,
    /// It uses the registers of x87, or MMX, which are the same.
    pub x87: bool,
    /// It is to be noted: [`Cpu::note_x87`].
    pub noted: bool,
    /// The host may execute it while its memory operand's address is a multiple of this; otherwise it
    /// may be #GP(0).
    pub alignment: u8,
}

impl HostUse {
    /// None: it is not one that the host may execute so, given the right registers.
    #[must_use]
    pub fn of(instruction: &Instruction, op: &Op) -> Option<Self> {
        use Mnemonic as M;
        let known = match instruction.mnemonic() {
            M::Vzeroupper | M::Vzeroall => Some(VectorClass::Avx),
            M::Stmxcsr => Some(VectorClass::Sse),
            M::Vstmxcsr => Some(VectorClass::Avx),
            _ => None,
        };
        let plain = HostUse { class: known, x87: false, noted: false, alignment: 1 };
        if let Some(class) = known {
            let here = class == VectorClass::Sse || is_x86_feature_detected!("avx");
            return here.then_some(plain);
        }
        if let Some(used) = x87::host_use(instruction) {
            let noted = used == x87::HostUse::Noted;
            return Some(HostUse { x87: true, noted, ..plain });
        }
        let mut op = *op;
        let ours = special::select(instruction, &mut op).is_some()
            || gather::select(instruction, &mut op).is_some()
            || masked_move::select(instruction, &mut op).is_some();
        // What a mask leaves out is not accessed, but may be where the operand is known to be memory.
        let whole = matches!(active(instruction), Active::All | Active::Mask { .. });
        if ours || !uses_vectors(instruction) || !whole {
            return None;
        }
        let class = match class(instruction) {
            Class::Mmx => None,
            Class::Sse => Some(VectorClass::Sse),
            Class::Avx => Some(VectorClass::Avx),
            Class::Avx512 => Some(VectorClass::Avx512),
        };
        // With a memory operand they still use MXCSR and those of MMX.
        let converts = matches!(
            instruction.mnemonic(),
            M::Cvtpi2ps | M::Cvtpi2pd | M::Cvtps2pi | M::Cvttps2pi | M::Cvtpd2pi | M::Cvttpd2pi
        );
        let class = if converts { Some(VectorClass::Sse) } else { class };
        let mmx = (0..instruction.op_count()).any(|number| {
            instruction.op_kind(number) == OpKind::Register
                && instruction.op_register(number).is_mm()
        });
        let x87 = class.is_none() || mmx || converts;
        let executable = cpu_host::is_executable(instruction);
        // Intel's processors want it, and the guest is to see what AMD's do.
        let sha = instruction.cpuid_features().contains(&CpuidFeature::SHA);
        let alignment = if sha { SHA_ALIGNMENT } else { alignment(instruction) };
        executable.then_some(HostUse { class, x87, noted: false, alignment })
    }
}

impl Cpu {
    /// Whether the operating system lets registers be used. If not, tier 0 raises what that is.
    #[must_use]
    pub fn may_use(&self, class: VectorClass) -> bool {
        match class {
            VectorClass::Sse => available::sse(self),
            VectorClass::Avx => available::avx(self),
            VectorClass::Avx512 => available::avx512(self),
        }
        .is_ok()
    }
}
