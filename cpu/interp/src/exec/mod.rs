//! The instructions, one family per file. Each file says which mnemonics it executes (`select`).

mod arith;
mod bcd;
mod bits;
mod bmi;
mod branch;
mod cache;
mod control;
mod crc;
mod far;
mod flags;
mod frame;
mod fxsave;
mod hypercall;
mod interrupt;
mod invalidate;
mod io;
mod iret;
mod logic;
mod moves;
mod msr;
mod muldiv;
mod mxcsr;
mod place;
mod protection_keys;
mod random;
mod segment;
mod segment_base;
mod shift;
mod smm;
mod stack;
#[cfg(test)]
mod state_coverage;
mod string;
mod syscall;
mod system;
mod task;
mod tss;
mod vector;
mod virtual_interrupts;
mod x87;
mod xcr;
mod xsave;

use cpu_defs::Exception;
use iced_x86::Instruction;

use crate::cpu::Cpu;
use crate::features::Features;
use crate::native::Native;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop};

pub use vector::{HostUse, VectorClass};
pub(crate) use x87::opcode as x87_opcode;

pub use hypercall::HypercallAnswer;
pub use msr::{MsrRefusal, MsrStore, Origin, feature_msrs, saved_msrs};

/// Every family, tried in turn when an instruction is decoded.
const FAMILIES: &[fn(&Instruction, &mut Op) -> Option<Handler>] = &[
    moves::select,
    arith::select,
    logic::select,
    branch::select,
    stack::select,
    shift::select,
    muldiv::select,
    bits::select,
    bcd::select,
    flags::select,
    string::select,
    io::select,
    segment::select,
    control::select,
    system::select,
    smm::select,
    invalidate::select,
    protection_keys::select,
    msr::select,
    far::select,
    syscall::select,
    segment_base::select,
    cache::select,
    hypercall::select,
    bmi::select,
    random::select,
    crc::select,
    xcr::select,
    xsave::select,
    fxsave::select,
    mxcsr::select,
];

/// The handler of an instruction. May adapt `op` to what the handler wants.
///
/// What the guest's CPUID does not announce is #UD, here and for every family.
pub(crate) fn select(
    instruction: &Instruction,
    op: &mut Op,
    features: &Features,
    native: &mut Native,
) -> Handler {
    if !features.have(instruction) {
        return undefined;
    }
    if let Some(handler) = vector::select(instruction, op, native) {
        return handler;
    }
    if let Some(handler) = x87::select(instruction, op, native) {
        return handler;
    }
    for family in FAMILIES {
        if let Some(handler) = family(instruction, op) {
            return handler;
        }
    }
    undefined
}

/// Raises #UD.
pub(crate) fn undefined(_: &mut Cpu, _: &Op) -> Done {
    Err(Stop::Fault(Exception::ud()))
}

/// Leaves with an emulation failure.
pub(crate) fn unsupported(_: &mut Cpu, _: &Op) -> Done {
    Err(Stop::Unsupported)
}
