//! CRC32: the CRC-32C (Castagnoli) of 8, 16, 32 or 64 bits.

use iced_x86::{Instruction, Mnemonic};

use super::place::by_size;
use crate::cpu::Cpu;
use crate::decode::operand_size;
use crate::int::Int;
use crate::op::{Handler, Op};
use crate::stop::Done;

/// The polynomial 11EDC6F41H, bits reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    if instruction.mnemonic() != Mnemonic::Crc32 {
        return None;
    }
    Some(by_size!(operand_size(instruction, 1), crc32))
}

/// The result is zero-extended to the whole register.
fn crc32<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let source = cpu.load::<T>(op, op.src)?.to_u64().to_le_bytes();
    let mut crc = cpu.get::<u32>(op.dst);
    for byte in &source[..T::SIZE] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { POLYNOMIAL } else { 0 };
        }
    }
    cpu.set(op.dst, crc);
    Ok(())
}
