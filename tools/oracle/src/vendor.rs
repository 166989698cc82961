//! What hosts whose processor is not AMD's do otherwise.
//!
//! Where the manuals leave something open, or the two makers differ, the engine does what AMD's
//! processors do. On another host less is compared; that an instruction completes, and what it does
//! then, is compared on each.

use iced_x86::{CpuidFeature, Instruction, Mnemonic, OpKind};

use crate::case::{Case, Outcome};
use crate::compare::{CS, GENERAL_PROTECTION, shifts_too_far};
use crate::layout::USER_CS;

const ALIGNMENT_CHECK: u32 = 17;
const RF: u64 = 1 << 16;

/// Another maker's processor may end otherwise, or leave something else behind.
#[must_use]
pub fn is_open(case: &Case, instruction: &Instruction, native: &Outcome, engine: &Outcome) -> bool {
    both_fault(native, engine)
        || checks_alignment(native, engine)
        || posts_exception(instruction, native, engine)
        || has_other_components(instruction)
        || wants_alignment(instruction, native, engine)
        || wraps(case, instruction, engine)
        || leaves_64_bits(case, native, engine)
        || counts_nothing(case, instruction)
        || is_interrupted(instruction, native)
        || rotates_round(case, instruction)
        || shifts_too_far(case, instruction)
        // FDP has 64 bits; REX.B is ignored, or makes it XCHG.
        || matches!(instruction.mnemonic(), Mnemonic::Fxrstor64 | Mnemonic::Pause)
}

/// Which of several faults comes first, and what a fault leaves in registers that it does not report
/// through: masks of gathers, the top of the x87 stack, MXCSR, the address of one of two operands.
fn both_fault(native: &Outcome, engine: &Outcome) -> bool {
    let fault = |outcome: &Outcome| matches!(outcome.vector, 5 | 6 | 10..=14 | 16 | 17 | 19);
    fault(native) && fault(engine)
}

/// AMD's processors check the alignment of VEX operands, Intel's do not, and the other way
/// round with areas of XSAVE.
fn checks_alignment(native: &Outcome, engine: &Outcome) -> bool {
    native.vector == ALIGNMENT_CHECK || engine.vector == ALIGNMENT_CHECK
}

/// The operands of SHA instructions, on Intel's processors alone.
fn wants_alignment(instruction: &Instruction, native: &Outcome, engine: &Outcome) -> bool {
    let faults = [native.vector, engine.vector].contains(&GENERAL_PROTECTION);
    faults && instruction.cpuid_features().contains(&CpuidFeature::SHA)
}

/// Into compatibility mode, at an offset of which Intel's processors take the lower half.
fn leaves_64_bits(case: &Case, native: &Outcome, engine: &Outcome) -> bool {
    case.bits == 64 && native.seg[CS] != USER_CS && engine.vector == GENERAL_PROTECTION
}

/// What is behind the end of the address size of an operand that a mask chooses from: the beginning, or
/// nothing.
fn wraps(case: &Case, instruction: &Instruction, engine: &Outcome) -> bool {
    let masked = instruction.has_op_mask();
    case.bits != 64 && masked && engine.vector == GENERAL_PROTECTION
}

/// Intel's processors look at the operand of a store only when its value raises no exception that is not
/// masked.
fn posts_exception(instruction: &Instruction, native: &Outcome, engine: &Outcome) -> bool {
    use Mnemonic as M;
    let stores = matches!(
        instruction.mnemonic(),
        M::Fst | M::Fstp | M::Fist | M::Fistp | M::Fisttp | M::Fbstp
    );
    stores && matches!(native.vector, 1 | 3) && matches!(engine.vector, 12..=14)
}

/// Its area has components that the engine does not have.
fn has_other_components(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        instruction.mnemonic(),
        M::Xsave
            | M::Xsave64
            | M::Xsavec
            | M::Xsavec64
            | M::Xsaveopt
            | M::Xsaveopt64
            | M::Xrstor
            | M::Xrstor64
    )
}

/// A string instruction with addresses of 32 bits that is repeated no time: Intel's processors clear the
/// upper halves of its registers.
fn counts_nothing(case: &Case, instruction: &Instruction) -> bool {
    case.bits == 64 && is_repeated(instruction) && case.gpr[1] as u32 == 0
}

/// The flags of the iterations that SCAS or CMPS has done appear at its end, or at each.
fn is_interrupted(instruction: &Instruction, native: &Outcome) -> bool {
    is_repeated(instruction) && native.rflags & RF != 0
}

fn is_repeated(instruction: &Instruction) -> bool {
    let prefixed = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    instruction.is_string_instruction() && prefixed
}

/// RCL and RCR of 8 or 16 bits by more than that: OF is undefined.
fn rotates_round(case: &Case, instruction: &Instruction) -> bool {
    let rotates = matches!(instruction.mnemonic(), Mnemonic::Rcl | Mnemonic::Rcr);
    let size = match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size(),
        _ => instruction.memory_size().size(),
    };
    let count = match instruction.op1_kind() {
        OpKind::Immediate8 => instruction.immediate8(),
        _ => case.gpr[1] as u8,
    };
    rotates && size <= 2 && usize::from(count & 31) > 8 * size
}
