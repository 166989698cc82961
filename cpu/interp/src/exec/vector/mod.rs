//! MMX, SSE, AVX, AVX-512 and their relatives, executed by the host (see `cpu-host`); what touches
//! memory in its own way (gathers, masked stores of MMX and SSE) is executed here.
//!
//! SDM volume 1, "Programming with Intel MMX Technology" to "Programming with Intel AVX-512";
//! volume 2, "Instruction Exception Specification".
//!
//! Laws: the memory operand is loaded, or the store of it translated, before the instruction is
//! executed, so a fault of either kind leaves everything but MXCSR's flags as it was. Elements
//! that a mask leaves out touch no memory.

mod active;
pub(super) mod available;
mod classify;
#[cfg(test)]
mod coverage;
mod execute;
mod gather;
mod host_use;
mod masked_move;
mod special;

use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind, Register};

use crate::native::Native;
use crate::op::{Handler, Op};

pub use host_use::{HostUse, VectorClass};

/// Registers decide: general, x87 and control registers alone belong to other families.
pub(super) fn select(
    instruction: &Instruction,
    op: &mut Op,
    native: &mut Native,
) -> Option<Handler> {
    if let Some(handler) = special::select(instruction, op) {
        return Some(handler);
    }
    if !uses_vectors(instruction) {
        return None;
    }
    if let Some(handler) = gather::select(instruction, op) {
        return Some(handler);
    }
    if let Some(handler) = masked_move::select(instruction, op) {
        return Some(handler);
    }
    Some(execute::select(instruction, op, native))
}

/// Conversions whose source is in memory show no vector register, but need one to be usable.
fn uses_vectors(instruction: &Instruction) -> bool {
    let is_vector =
        |register: Register| register.is_vector_register() || register.is_k() || register.is_mm();
    is_scalar_conversion(instruction.mnemonic())
        || instruction.mnemonic() == Mnemonic::Emms
        || (0..instruction.op_count()).any(|number| {
            instruction.op_kind(number) == OpKind::Register
                && is_vector(instruction.op_register(number))
        })
}

fn is_scalar_conversion(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Cvtss2si
            | M::Cvttss2si
            | M::Cvtsd2si
            | M::Cvttsd2si
            | M::Vcvtss2si
            | M::Vcvttss2si
            | M::Vcvtsd2si
            | M::Vcvttsd2si
            | M::Vcvtss2usi
            | M::Vcvttss2usi
            | M::Vcvtsd2usi
            | M::Vcvttsd2usi
            | M::Vcvtsh2si
            | M::Vcvttsh2si
            | M::Vcvtsh2usi
            | M::Vcvttsh2usi
    )
}

/// Which registers' availability an instruction asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Mmx,
    Sse,
    Avx,
    Avx512,
}

fn class(instruction: &Instruction) -> Class {
    let any = |wanted: fn(Register) -> bool| {
        (0..instruction.op_count()).any(|number| {
            instruction.op_kind(number) == OpKind::Register
                && wanted(instruction.op_register(number))
        })
    };
    match instruction.encoding() {
        EncodingKind::EVEX => Class::Avx512,
        EncodingKind::VEX if any(Register::is_k) => Class::Avx512,
        EncodingKind::VEX => Class::Avx,
        _ if any(Register::is_xmm) || is_scalar_conversion(instruction.mnemonic()) => Class::Sse,
        _ => Class::Mmx,
    }
}
