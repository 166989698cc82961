//! BMI1 and BMI2: ANDN, BEXTR, BLSI, BLSMSK, BLSR, BZHI, MULX, PDEP, PEXT, RORX, SARX, SHLX, SHRX.
//!
//! Operands of 32 or 64 bits. The encoding (VEX) does not exist in real and virtual-8086 mode:
//! #UD there.

use cpu_alu::{Width, bmi};
use cpu_defs::Gpr;
use iced_x86::{Instruction, Mnemonic};

use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Handler, Op};
use crate::stop::{Done, ud};

/// A function of two operands that replaces the status flags.
trait Flagged {
    fn apply<T: Width>(a: T, b: T) -> (T, u32);
}

/// A function of two operands that leaves the flags.
trait Plain {
    fn apply<T: Width>(a: T, b: T) -> T;
}

macro_rules! functions {
    ($($kind:ident $name:ident -> $result:ty = |$a:ident, $b:ident| $body:expr;)*) => {$(
        struct $name;
        impl $kind for $name {
            #[inline(always)]
            fn apply<T: Width>($a: T, $b: T) -> $result {
                $body
            }
        }
    )*};
}

functions! {
    Flagged Andn -> (T, u32) = |a, b| bmi::andn(a, b);
    Flagged Bextr -> (T, u32) = |a, b| bmi::bextr(a, b);
    Flagged Bzhi -> (T, u32) = |a, b| bmi::bzhi(a, b);
    Flagged Blsi -> (T, u32) = |a, _b| bmi::blsi(a);
    Flagged Blsmsk -> (T, u32) = |a, _b| bmi::blsmsk(a);
    Flagged Blsr -> (T, u32) = |a, _b| bmi::blsr(a);
    Plain Pdep -> T = |a, b| bmi::pdep(a, b);
    Plain Pext -> T = |a, b| bmi::pext(a, b);
    Plain Shlx -> T = |a, b| T::from_u64(a.to_u64() << count(b));
    Plain Shrx -> T = |a, b| T::from_u64(a.to_u64() >> count(b));
    Plain Sarx -> T = |a, b| T::from_u64((a.to_i64() >> count(b)) as u64);
    Plain Rorx -> T = |a, b| rotate_right(a, count(b));
}

/// A variable count: modulo the operand size, which is 32 or 64 bits.
fn count<T: Width>(value: T) -> u32 {
    T::mask_count(value.to_u64() as u8)
}

fn rotate_right<T: Width>(a: T, count: u32) -> T {
    let low = a.to_u64() >> count;
    let high = a.to_u64().checked_shl(T::BITS - count).unwrap_or(0);
    T::from_u64(low | high)
}

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Andn => flagged::<Andn>(op),
        Mnemonic::Bextr => flagged::<Bextr>(op),
        Mnemonic::Bzhi => flagged::<Bzhi>(op),
        Mnemonic::Blsi => one_source::<Blsi>(op),
        Mnemonic::Blsmsk => one_source::<Blsmsk>(op),
        Mnemonic::Blsr => one_source::<Blsr>(op),
        Mnemonic::Pdep => plain::<Pdep>(op),
        Mnemonic::Pext => plain::<Pext>(op),
        Mnemonic::Shlx => plain::<Shlx>(op),
        Mnemonic::Shrx => plain::<Shrx>(op),
        Mnemonic::Sarx => plain::<Sarx>(op),
        Mnemonic::Rorx => plain::<Rorx>(op),
        Mnemonic::Mulx if op.size == 4 => mulx::<u32>,
        Mnemonic::Mulx => mulx::<u64>,
        _ => return None,
    })
}

fn flagged<O: Flagged>(op: &Op) -> Handler {
    if op.size == 4 { with_flags::<u32, O> } else { with_flags::<u64, O> }
}

/// The one source stands for both operands.
fn one_source<O: Flagged>(op: &mut Op) -> Handler {
    op.third = op.src;
    flagged::<O>(op)
}

fn plain<O: Plain>(op: &Op) -> Handler {
    if op.size == 4 { without_flags::<u32, O> } else { without_flags::<u64, O> }
}

/// The second and third operands; at most one is in memory.
#[inline(always)]
fn sources<T: Int>(cpu: &mut Cpu, op: &Op) -> Result<(T, T), crate::Stop> {
    if !cpu.mode.has_descriptors() {
        return ud();
    }
    let a = cpu.load::<T>(op, op.src)?;
    let b = if op.third == op.src { a } else { cpu.load::<T>(op, op.third)? };
    Ok((a, b))
}

fn with_flags<T: Int, O: Flagged>(cpu: &mut Cpu, op: &Op) -> Done {
    let (a, b) = sources::<T>(cpu, op)?;
    let (result, flags) = O::apply(a, b);
    cpu.set(op.dst, result);
    cpu.set_status(flags);
    Ok(())
}

fn without_flags<T: Int, O: Plain>(cpu: &mut Cpu, op: &Op) -> Done {
    let (a, b) = sources::<T>(cpu, op)?;
    cpu.set(op.dst, O::apply(a, b));
    Ok(())
}

/// The first operand gets the upper half, also where both are the same register.
fn mulx<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    if !cpu.mode.has_descriptors() {
        return ud();
    }
    let source = cpu.load::<T>(op, op.third)?;
    let product = u128::from(cpu.get::<T>(Gpr::Rdx as u8).to_u64()) * u128::from(source.to_u64());
    cpu.set(op.src, T::from_u64(product as u64));
    cpu.set(op.dst, T::from_u64((product >> T::BITS) as u64));
    Ok(())
}
