//! For another tier: which instructions the host can execute on registers that are the guest's own,
//! with a memory operand of whole bytes.

use iced_x86::{CpuidFeature, Instruction, Mnemonic, Register};

use super::classify::{active, alignment};
use super::{Class, available, class, gather, masked_move, special, uses_vectors};
use crate::cpu::Cpu;
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
pub struct VectorUse {
    /// Its registers.
    pub class: VectorClass,
    /// The host may execute it while its memory operand's address is a multiple of this; otherwise it
    /// may be #GP(0).
    pub alignment: u8,
}

impl VectorUse {
    /// None: it is not one that the host may execute so, given the right registers, or it uses those
    /// of x87.
    #[must_use]
    pub fn of(instruction: &Instruction, op: &Op) -> Option<Self> {
        use Mnemonic as M;
        let known = match instruction.mnemonic() {
            M::Vzeroupper | M::Vzeroall => Some(VectorClass::Avx),
            M::Stmxcsr => Some(VectorClass::Sse),
            M::Vstmxcsr => Some(VectorClass::Avx),
            // They make registers of MMX valid, even with a memory operand.
            M::Cvtpi2ps | M::Cvtpi2pd => return None,
            _ => None,
        };
        if let Some(class) = known {
            let here = class == VectorClass::Sse || is_x86_feature_detected!("avx");
            return here.then_some(VectorUse { class, alignment: 1 });
        }
        let mut op = *op;
        let ours = special::select(instruction, &mut op).is_some()
            || gather::select(instruction, &mut op).is_some()
            || masked_move::select(instruction, &mut op).is_some();
        if ours || !uses_vectors(instruction) || active(instruction) != Active::All {
            return None;
        }
        let class = match class(instruction) {
            Class::Mmx => return None,
            Class::Sse => VectorClass::Sse,
            Class::Avx => VectorClass::Avx,
            Class::Avx512 => VectorClass::Avx512,
        };
        let mmx = (0..instruction.op_count())
            .any(|number| Register::is_mm(instruction.op_register(number)));
        let executable = !mmx && cpu_host::is_executable(instruction);
        // Intel's processors want it, and the guest is to see what AMD's do.
        let sha = instruction.cpuid_features().contains(&CpuidFeature::SHA);
        let alignment = if sha { SHA_ALIGNMENT } else { alignment(instruction) };
        executable.then_some(VectorUse { class, alignment })
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
