//! MUL, IMUL, DIV, IDIV.

use cpu_alu::{DivideError, muldiv};
use cpu_defs::{Exception, Gpr, vector};
use iced_x86::{Instruction, Mnemonic};

use super::place::by_size;
use crate::cpu::Cpu;
use crate::int::{HIGH_BYTE, Int};
use crate::op::{Handler, IMM, Op};
use crate::stop::{Done, Stop};

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match (instruction.mnemonic(), instruction.op_count()) {
        (Mnemonic::Mul, _) => by_size!(op.size, mul),
        (Mnemonic::Imul, 1) => by_size!(op.size, imul_wide),
        (Mnemonic::Imul, 2) => by_size!(op.size, imul),
        (Mnemonic::Imul, _) => by_size!(op.size, imul_immediate),
        (Mnemonic::Div, _) => by_size!(op.size, div),
        (Mnemonic::Idiv, _) => by_size!(op.size, idiv),
        _ => return None,
    })
}

/// Register of the upper half: AH for bytes, else DX, EDX, RDX.
fn high_half<T: Int>() -> u8 {
    if T::SIZE == 1 { HIGH_BYTE } else { Gpr::Rdx as u8 }
}

fn set_wide<T: Int>(cpu: &mut Cpu, low: T, high: T) {
    cpu.set(Gpr::Rax as u8, low);
    cpu.set(high_half::<T>(), high);
}

fn mul<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let b = cpu.load::<T>(op, op.dst)?;
    let (low, high, flags) = muldiv::mul(cpu.get::<T>(Gpr::Rax as u8), b, cpu.status());
    set_wide(cpu, low, high);
    cpu.set_status(flags);
    Ok(())
}

fn imul_wide<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let b = cpu.load::<T>(op, op.dst)?;
    let (low, high, flags) = muldiv::imul_wide(cpu.get::<T>(Gpr::Rax as u8), b, cpu.status());
    set_wide(cpu, low, high);
    cpu.set_status(flags);
    Ok(())
}

fn imul<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let b = cpu.load::<T>(op, op.src)?;
    let (product, flags) = muldiv::imul(cpu.get::<T>(op.dst), b, cpu.status());
    cpu.set(op.dst, product);
    cpu.set_status(flags);
    Ok(())
}

fn imul_immediate<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let a = cpu.load::<T>(op, op.src)?;
    let b = cpu.load::<T>(op, IMM)?;
    let (product, flags) = muldiv::imul(a, b, cpu.status());
    cpu.set(op.dst, product);
    cpu.set_status(flags);
    Ok(())
}

fn div<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    divide(cpu, op, muldiv::div::<T>)
}

fn idiv<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    divide(cpu, op, muldiv::idiv::<T>)
}

fn divide<T: Int>(
    cpu: &mut Cpu,
    op: &Op,
    function: impl Fn(T, T, T) -> Result<(T, T), DivideError>,
) -> Done {
    let divisor = cpu.load::<T>(op, op.dst)?;
    let (high, low) = (cpu.get(high_half::<T>()), cpu.get(Gpr::Rax as u8));
    let (quotient, remainder) = function(high, low, divisor).map_err(|_| divide_error())?;
    set_wide(cpu, quotient, remainder);
    cpu.set_status(muldiv::flags_after_division(cpu.status()));
    Ok(())
}

/// #DE.
#[cold]
pub(super) fn divide_error() -> Stop {
    Stop::Fault(Exception::plain(vector::DE))
}
