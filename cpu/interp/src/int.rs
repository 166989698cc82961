//! Operand sizes: an integer that the ALU computes, memory holds and a register is made of.

use cpu_alu::Width;
use cpu_mem::Word;

/// Number of slots of the register file: 16 GPRs, [`ZERO`], [`RIP`], unused ones up to a power of two.
pub const SLOTS: usize = 32;
/// Slot that always reads zero: an absent base or index.
pub const ZERO: u8 = 16;
/// Slot of RIP.
pub const RIP: u8 = 17;
/// Set in the number of AH, CH, DH and BH beside the number of the whole register.
pub const HIGH_BYTE: u8 = 0x20;

/// An operand of 8, 16, 32 or 64 bits.
pub trait Int: Width + Word {
    /// The low part of a register (or its second byte, see [`HIGH_BYTE`]).
    fn get(slots: &[u64; SLOTS], number: u8) -> Self;
    /// Writes a register: 32 bits clear the upper half, narrower ones keep the rest.
    fn set(slots: &mut [u64; SLOTS], number: u8, value: Self);
}

impl Int for u8 {
    #[inline(always)]
    fn get(slots: &[u64; SLOTS], number: u8) -> Self {
        (slots[usize::from(number & 31)] >> ((number >> 5) * 8)) as u8
    }

    #[inline(always)]
    fn set(slots: &mut [u64; SLOTS], number: u8, value: Self) {
        let shift = (number >> 5) * 8;
        let slot = &mut slots[usize::from(number & 31)];
        *slot = (*slot & !(0xFF << shift)) | (u64::from(value) << shift);
    }
}

impl Int for u16 {
    #[inline(always)]
    fn get(slots: &[u64; SLOTS], number: u8) -> Self {
        slots[usize::from(number & 31)] as u16
    }

    #[inline(always)]
    fn set(slots: &mut [u64; SLOTS], number: u8, value: Self) {
        let slot = &mut slots[usize::from(number & 31)];
        *slot = (*slot & !0xFFFF) | u64::from(value);
    }
}

impl Int for u32 {
    #[inline(always)]
    fn get(slots: &[u64; SLOTS], number: u8) -> Self {
        slots[usize::from(number & 31)] as u32
    }

    #[inline(always)]
    fn set(slots: &mut [u64; SLOTS], number: u8, value: Self) {
        slots[usize::from(number & 31)] = u64::from(value);
    }
}

impl Int for u64 {
    #[inline(always)]
    fn get(slots: &[u64; SLOTS], number: u8) -> Self {
        slots[usize::from(number & 31)]
    }

    #[inline(always)]
    fn set(slots: &mut [u64; SLOTS], number: u8, value: Self) {
        slots[usize::from(number & 31)] = value;
    }
}
