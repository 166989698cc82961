//! BT, BTS, BTR, BTC, BSF, BSR, BSWAP, POPCNT, TZCNT, LZCNT.
//!
//! TZCNT and LZCNT are decoded as BSF and BSR where they are not announced.

use cpu_alu::{Width, bit};
use iced_x86::{Instruction, Mnemonic};

use super::place::by_size;
use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Handler, IMM, Op};
use crate::stop::{Done, Stop};

/// What happens to the tested bit.
trait Change {
    fn apply<T: Width>(a: T, index: u64, flags: u32) -> (T, u32);
}

macro_rules! changes {
    ($($name:ident = $function:path;)*) => {$(
        struct $name;
        impl Change for $name {
            #[inline(always)]
            fn apply<T: Width>(a: T, index: u64, flags: u32) -> (T, u32) {
                $function(a, index, flags)
            }
        }
    )*};
}

changes! {
    Set = bit::bts;
    Reset = bit::btr;
    Complement = bit::btc;
}

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Bt => by_size!(op.size, bt),
        Mnemonic::Bts => by_size!(op.size, change, Set),
        Mnemonic::Btr => by_size!(op.size, change, Reset),
        Mnemonic::Btc => by_size!(op.size, change, Complement),
        Mnemonic::Bsf => by_size!(op.size, bsf),
        Mnemonic::Bsr => by_size!(op.size, bsr),
        Mnemonic::Bswap => by_size!(op.size, bswap),
        Mnemonic::Popcnt => by_size!(op.size, popcnt),
        Mnemonic::Tzcnt => by_size!(op.size, tzcnt),
        Mnemonic::Lzcnt => by_size!(op.size, lzcnt),
        _ => return None,
    })
}

/// Bit index, and the offset of the word that holds the bit: a register index reaches beyond the
/// operand in memory.
fn locate<T: Int>(cpu: &Cpu, op: &Op) -> (u64, u64) {
    let offset = cpu.offset(op);
    if op.src == IMM {
        return (op.imm, offset);
    }
    let index = cpu.get::<T>(op.src).to_i64();
    let words = index >> T::BITS.trailing_zeros();
    let bytes = words.wrapping_mul(T::SIZE as i64) as u64;
    (index as u64, offset.wrapping_add(bytes) & op.address_mask)
}

fn register_index<T: Int>(cpu: &mut Cpu, op: &Op) -> Result<u64, Stop> {
    Ok(cpu.load::<T>(op, op.src)?.to_u64())
}

fn bt<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let (index, value) = if op.dst_is_memory() {
        let (index, offset) = locate::<T>(cpu, op);
        (index, cpu.read::<T>(op.seg, offset)?)
    } else {
        (register_index::<T>(cpu, op)?, cpu.get(op.dst))
    };
    let flags = bit::bt(value, index, cpu.status());
    cpu.set_status(flags);
    Ok(())
}

fn change<T: Int, O: Change>(cpu: &mut Cpu, op: &Op) -> Done {
    let before = cpu.status();
    let mut flags = 0;
    if op.dst_is_memory() {
        let (index, offset) = locate::<T>(cpu, op);
        cpu.modify(op.seg, offset, op.lock, |a: T| {
            let (result, after) = O::apply(a, index, before);
            flags = after;
            result
        })?;
    } else {
        let index = register_index::<T>(cpu, op)?;
        let (result, after) = O::apply(cpu.get::<T>(op.dst), index, before);
        flags = after;
        cpu.set(op.dst, result);
    }
    cpu.set_status(flags);
    Ok(())
}

fn bsf<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    scan::<T>(cpu, op, bit::bsf)
}

fn bsr<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    scan::<T>(cpu, op, bit::bsr)
}

/// With a zero source the destination register is left as it was, upper half included.
fn scan<T: Int>(cpu: &mut Cpu, op: &Op, function: impl Fn(T, T) -> (T, u32)) -> Done {
    let source = cpu.load::<T>(op, op.src)?;
    let (result, flags) = function(cpu.get(op.dst), source);
    if source.to_u64() != 0 {
        cpu.set(op.dst, result);
    }
    cpu.set_status(flags);
    Ok(())
}

fn popcnt<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    count::<T>(cpu, op, |source, _| bit::popcnt(source))
}

fn tzcnt<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    count::<T>(cpu, op, bit::tzcnt)
}

fn lzcnt<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    count::<T>(cpu, op, bit::lzcnt)
}

fn count<T: Int>(cpu: &mut Cpu, op: &Op, function: impl Fn(T, u32) -> (T, u32)) -> Done {
    let source = cpu.load::<T>(op, op.src)?;
    let (result, flags) = function(source, cpu.status());
    cpu.set(op.dst, result);
    cpu.set_status(flags);
    Ok(())
}

fn bswap<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let value = bit::bswap(cpu.get::<T>(op.dst));
    cpu.set(op.dst, value);
    Ok(())
}
