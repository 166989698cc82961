//! SHL, SHR, SAR, ROL, ROR, RCL, RCR, SHLD, SHRD.

use cpu_alu::{Width, rotate, shift};
use cpu_defs::Gpr;
use iced_x86::{Instruction, Mnemonic, OpKind};

use super::place::by_size;
use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Handler, IMM, Op};
use crate::stop::Done;

/// A shift or rotate by a count.
trait Shift {
    fn apply<T: Width>(a: T, count: u8, flags: u32) -> (T, u32);
}

macro_rules! shifts {
    ($($name:ident = $function:path;)*) => {$(
        struct $name;
        impl Shift for $name {
            #[inline(always)]
            fn apply<T: Width>(a: T, count: u8, flags: u32) -> (T, u32) {
                $function(a, count, flags)
            }
        }
    )*};
}

shifts! {
    Shl = shift::shl;
    Shr = shift::shr;
    Sar = shift::sar;
    Rol = rotate::rol;
    Ror = rotate::ror;
    Rcl = rotate::rcl;
    Rcr = rotate::rcr;
}

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Shl | Mnemonic::Sal => by_size!(op.size, by_count, Shl),
        Mnemonic::Shr => by_size!(op.size, by_count, Shr),
        Mnemonic::Sar => by_size!(op.size, by_count, Sar),
        Mnemonic::Rol => by_size!(op.size, by_count, Rol),
        Mnemonic::Ror => by_size!(op.size, by_count, Ror),
        Mnemonic::Rcl => by_size!(op.size, by_count, Rcl),
        Mnemonic::Rcr => by_size!(op.size, by_count, Rcr),
        Mnemonic::Shld | Mnemonic::Shrd => {
            op.third = if instruction.op2_kind() == OpKind::Register { 1 } else { IMM };
            if instruction.mnemonic() == Mnemonic::Shld {
                by_size!(op.size, shld)
            } else {
                by_size!(op.size, shrd)
            }
        }
        _ => return None,
    })
}

/// The count: the immediate or CL.
#[inline(always)]
fn count(cpu: &Cpu, op: &Op, place: u8) -> u8 {
    if place == IMM { op.imm as u8 } else { cpu.get(Gpr::Rcx as u8) }
}

fn by_count<T: Int, O: Shift>(cpu: &mut Cpu, op: &Op) -> Done {
    let count = count(cpu, op, op.src);
    let before = cpu.status();
    let mut flags = 0;
    cpu.update(op, |a: T| {
        let (result, after) = O::apply(a, count, before);
        flags = after;
        result
    })?;
    cpu.set_status(flags);
    Ok(())
}

fn shld<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    double_shift::<T>(cpu, op, shift::shld)
}

fn shrd<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    double_shift::<T>(cpu, op, shift::shrd)
}

fn double_shift<T: Int>(
    cpu: &mut Cpu,
    op: &Op,
    function: impl Fn(T, T, u8, u32) -> (T, u32),
) -> Done {
    let count = count(cpu, op, op.third);
    let source = cpu.get::<T>(op.src);
    let before = cpu.status();
    let mut flags = 0;
    cpu.update(op, |a: T| {
        let (result, after) = function(a, source, count, before);
        flags = after;
        result
    })?;
    cpu.set_status(flags);
    Ok(())
}
