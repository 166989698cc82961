//! ADD, ADC, SUB, SBB, CMP, INC, DEC, NEG, XADD, CMPXCHG, ADCX, ADOX.

use cpu_alu::flags::{CF, OF};
use cpu_alu::{Width, arith};
use cpu_defs::Gpr;
use iced_x86::{Instruction, Mnemonic};

use super::place::by_size;
use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Handler, IMM, MEM, Op};
use crate::stop::Done;

/// A function of two operands and the flags.
pub(super) trait Binary {
    /// The result is stored; false for CMP and TEST.
    const STORES: bool = true;
    /// Result and status flags.
    fn apply<T: Width>(a: T, b: T, flags: u32) -> (T, u32);
}

/// A function of one operand and the flags.
pub(super) trait Unary {
    /// Result and status flags.
    fn apply<T: Width>(a: T, flags: u32) -> (T, u32);
}

macro_rules! binary {
    ($name:ident, $stores:expr, |$a:ident, $b:ident, $flags:ident| $body:expr) => {
        pub(super) struct $name;
        impl crate::exec::arith::Binary for $name {
            const STORES: bool = $stores;
            #[inline(always)]
            fn apply<T: cpu_alu::Width>($a: T, $b: T, $flags: u32) -> (T, u32) {
                $body
            }
        }
    };
}
pub(super) use binary;

macro_rules! unary {
    ($name:ident, |$a:ident, $flags:ident| $body:expr) => {
        pub(super) struct $name;
        impl crate::exec::arith::Unary for $name {
            #[inline(always)]
            fn apply<T: cpu_alu::Width>($a: T, $flags: u32) -> (T, u32) {
                $body
            }
        }
    };
}

binary!(Add, true, |a, b, _flags| arith::add(a, b));
binary!(Adc, true, |a, b, flags| arith::adc(a, b, flags));
binary!(Sub, true, |a, b, _flags| arith::sub(a, b));
binary!(Sbb, true, |a, b, flags| arith::sbb(a, b, flags));
binary!(Cmp, false, |a, b, _flags| (a, arith::cmp(a, b)));
binary!(Adcx, true, |a, b, flags| add_with(a, b, flags, CF));
binary!(Adox, true, |a, b, flags| add_with(a, b, flags, OF));
unary!(Inc, |a, flags| arith::inc(a, flags));
unary!(Dec, |a, flags| arith::dec(a, flags));
unary!(Neg, |a, _flags| arith::neg(a));

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Add => select_binary::<Add>(op),
        Mnemonic::Adc => select_binary::<Adc>(op),
        Mnemonic::Sub => select_binary::<Sub>(op),
        Mnemonic::Sbb => select_binary::<Sbb>(op),
        Mnemonic::Cmp => select_binary::<Cmp>(op),
        Mnemonic::Adcx => select_binary::<Adcx>(op),
        Mnemonic::Adox => select_binary::<Adox>(op),
        Mnemonic::Inc => select_unary::<Inc>(op),
        Mnemonic::Dec => select_unary::<Dec>(op),
        Mnemonic::Neg => select_unary::<Neg>(op),
        Mnemonic::Xadd => by_size!(op.size, xadd),
        Mnemonic::Cmpxchg => by_size!(op.size, cmpxchg),
        Mnemonic::Cmpxchg8b => cmpxchg8b,
        Mnemonic::Cmpxchg16b => cmpxchg16b,
        _ => return None,
    })
}

/// A sum with `carry` as carry in and out; no other flag changes.
#[inline(always)]
fn add_with<T: Width>(a: T, b: T, flags: u32, carry: u32) -> (T, u32) {
    let carry_in = if flags & carry != 0 { CF } else { 0 };
    let (sum, after) = arith::adc(a, b, carry_in);
    (sum, flags & !carry | if after & CF != 0 { carry } else { 0 })
}

/// The handler of a two-operand instruction for the operand places in `op`.
pub(super) fn select_binary<O: Binary>(op: &Op) -> Handler {
    match (op.dst, op.src) {
        (MEM, IMM) => by_size!(op.size, memory_immediate, O),
        (MEM, _) => by_size!(op.size, memory_register, O),
        (_, MEM) => by_size!(op.size, register_memory, O),
        (_, IMM) => by_size!(op.size, register_immediate, O),
        _ => by_size!(op.size, register_register, O),
    }
}

/// The handler of a one-operand instruction.
pub(super) fn select_unary<O: Unary>(op: &Op) -> Handler {
    by_size!(op.size, one_operand, O)
}

#[inline(always)]
fn to_register<T: Int, O: Binary>(cpu: &mut Cpu, op: &Op, b: T) -> Done {
    let (result, flags) = O::apply(cpu.get::<T>(op.dst), b, cpu.status());
    if O::STORES {
        cpu.set(op.dst, result);
    }
    cpu.set_status(flags);
    Ok(())
}

#[inline(always)]
fn to_memory<T: Int, O: Binary>(cpu: &mut Cpu, op: &Op, b: T) -> Done {
    let before = cpu.status();
    let offset = cpu.offset(op);
    let mut flags = 0;
    if O::STORES {
        cpu.modify(op.seg, offset, op.lock, |a: T| {
            let (result, after) = O::apply(a, b, before);
            flags = after;
            result
        })?;
    } else {
        flags = O::apply(cpu.read::<T>(op.seg, offset)?, b, before).1;
    }
    cpu.set_status(flags);
    Ok(())
}

fn register_register<T: Int, O: Binary>(cpu: &mut Cpu, op: &Op) -> Done {
    let b = cpu.get(op.src);
    to_register::<T, O>(cpu, op, b)
}

fn register_immediate<T: Int, O: Binary>(cpu: &mut Cpu, op: &Op) -> Done {
    to_register::<T, O>(cpu, op, T::from_u64(op.imm))
}

fn register_memory<T: Int, O: Binary>(cpu: &mut Cpu, op: &Op) -> Done {
    let b = cpu.read(op.seg, cpu.offset(op))?;
    to_register::<T, O>(cpu, op, b)
}

fn memory_register<T: Int, O: Binary>(cpu: &mut Cpu, op: &Op) -> Done {
    let b = cpu.get(op.src);
    to_memory::<T, O>(cpu, op, b)
}

fn memory_immediate<T: Int, O: Binary>(cpu: &mut Cpu, op: &Op) -> Done {
    to_memory::<T, O>(cpu, op, T::from_u64(op.imm))
}

fn one_operand<T: Int, O: Unary>(cpu: &mut Cpu, op: &Op) -> Done {
    let before = cpu.status();
    let mut flags = 0;
    cpu.update(op, |a: T| {
        let (result, after) = O::apply(a, before);
        flags = after;
        result
    })?;
    cpu.set_status(flags);
    Ok(())
}

fn xadd<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let addend = cpu.get::<T>(op.src);
    let (mut old, mut flags) = (addend, 0);
    cpu.update(op, |a: T| {
        let (sum, after) = arith::add(a, addend);
        (old, flags) = (a, after);
        sum
    })?;
    if op.dst == op.src {
        // The sum was stored last.
        cpu.set_status(flags);
        return Ok(());
    }
    cpu.set(op.src, old);
    cpu.set_status(flags);
    Ok(())
}

fn cmpxchg<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let accumulator = cpu.get::<T>(Gpr::Rax as u8);
    let new = cpu.get::<T>(op.src);
    let mut seen = accumulator;
    if op.dst_is_memory() {
        cpu.modify(op.seg, cpu.offset(op), op.lock, |old: T| {
            seen = old;
            if old == accumulator { new } else { old }
        })?;
    } else {
        seen = cpu.get(op.dst);
        if seen == accumulator {
            cpu.set(op.dst, new);
        }
    }
    if seen != accumulator {
        cpu.set(Gpr::Rax as u8, seen);
    }
    cpu.set_status(arith::cmp(accumulator, seen));
    Ok(())
}

fn cmpxchg8b(cpu: &mut Cpu, op: &Op) -> Done {
    let expected = cpu.edx_eax();
    let new = cpu.pair(Gpr::Rcx, Gpr::Rbx);
    let mut seen = expected;
    cpu.modify(op.seg, cpu.offset(op), op.lock, |old: u64| {
        seen = old;
        if old == expected { new } else { old }
    })?;
    if seen != expected {
        cpu.set_edx_eax(seen);
    }
    set_zero_flag(cpu, seen == expected);
    Ok(())
}

/// The operand must be aligned: #GP(0) otherwise.
fn cmpxchg16b(cpu: &mut Cpu, op: &Op) -> Done {
    let pair = |cpu: &Cpu, high: Gpr, low: Gpr| {
        u128::from(cpu.arch.gpr(high)) << 64 | u128::from(cpu.arch.gpr(low))
    };
    let expected = pair(cpu, Gpr::Rdx, Gpr::Rax);
    let new = pair(cpu, Gpr::Rcx, Gpr::Rbx);
    let offset = cpu.offset(op);
    if cpu.linear(op.seg, offset, 16, 0)? % 16 != 0 {
        return crate::stop::gp(0);
    }
    let mut seen = expected;
    cpu.modify(op.seg, offset, op.lock, |old: u128| {
        seen = old;
        if old == expected { new } else { old }
    })?;
    if seen != expected {
        cpu.arch.set_gpr(Gpr::Rax, seen as u64);
        cpu.arch.set_gpr(Gpr::Rdx, (seen >> 64) as u64);
    }
    set_zero_flag(cpu, seen == expected);
    Ok(())
}

fn set_zero_flag(cpu: &mut Cpu, value: bool) {
    let zf = cpu_defs::rflags::ZF;
    cpu.arch.rflags = if value { cpu.arch.rflags | zf } else { cpu.arch.rflags & !zf };
}
