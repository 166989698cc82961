//! The status flags, in their RFLAGS positions (Intel SDM volume 1, "EFLAGS Register").

use crate::Width;

/// Carry or borrow out of the most significant bit.
pub const CF: u32 = 1 << 0;
/// Even number of ones in the low byte of the result.
pub const PF: u32 = 1 << 2;
/// Carry or borrow out of bit 3.
pub const AF: u32 = 1 << 4;
/// The result is zero.
pub const ZF: u32 = 1 << 6;
/// Most significant bit of the result.
pub const SF: u32 = 1 << 7;
/// The result does not fit as a signed number.
pub const OF: u32 = 1 << 11;
/// All six.
pub const STATUS: u32 = CF | PF | AF | ZF | SF | OF;

/// Bit number of [`OF`].
const OF_SHIFT: u32 = 11;

/// `flag` where `set`, else nothing.
#[inline(always)]
pub(crate) fn when(set: bool, flag: u32) -> u32 {
    u32::from(set) * flag
}

/// SF, ZF and PF of a result.
#[inline(always)]
pub(crate) fn of_result<W: Width>(result: W) -> u32 {
    let wide = result.to_u64();
    when(result.sign(), SF) | when(wide == 0, ZF) | when(even_parity(wide), PF)
}

/// Whether the low byte has an even number of ones.
#[inline(always)]
pub(crate) fn even_parity(value: u64) -> bool {
    (value as u8).count_ones().is_multiple_of(2)
}

/// CF from bit `BITS - 1` of a word of carries, AF from its bit 3, OF where its two top bits
/// differ: the carry into the sign is not the carry out of it.
#[inline(always)]
pub(crate) fn of_carries<W: Width>(carries: u64) -> u32 {
    let top = (carries >> (W::BITS - 2)) as u32;
    let carry = (top >> 1) & 1;
    let auxiliary = ((carries as u32) << 1) & AF;
    carry | auxiliary | (((top ^ carry) & 1) << OF_SHIFT)
}

/// Carries out of each bit of `a + b` (+ carry) with that `sum`.
#[inline(always)]
pub(crate) fn carries_of_sum(a: u64, b: u64, sum: u64) -> u64 {
    (a & b) | ((a | b) & !sum)
}

/// Borrows out of each bit of `a - b` (- borrow) with that `difference`.
#[inline(always)]
pub(crate) fn borrows_of_difference(a: u64, b: u64, difference: u64) -> u64 {
    (!a & b) | ((!a | b) & difference)
}
