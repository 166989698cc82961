//! BMI1 and BMI2: ANDN, BEXTR, BLSI, BLSMSK, BLSR, BZHI, PDEP, PEXT. Operands of 32 or 64 bits.
//!
//! MULX, RORX, SARX, SHLX and SHRX change no flags and are plain arithmetic for the caller.

use crate::Width;
use crate::flags::{AF, CF, SF, of_result, when};

/// `!a & b`.
#[inline]
pub fn andn<W: Width>(a: W, b: W) -> (W, u32) {
    let result = W::from_u64(!a.to_u64() & b.to_u64());
    (result, of_result(result))
}

/// Bits of `a` from `control[7:0]` on, `control[15:8]` of them, moved down to bit 0.
#[inline]
pub fn bextr<W: Width>(a: W, control: W) -> (W, u32) {
    let [start, len, ..] = control.to_u64().to_le_bytes();
    let shifted = a.to_u64().checked_shr(u32::from(start)).unwrap_or(0);
    let result = W::from_u64(shifted & low_ones(u32::from(len)));
    (result, (of_result(result) & !SF) | AF)
}

/// The lowest one of `a` alone; CF says that `a` is not zero.
#[inline]
pub fn blsi<W: Width>(a: W) -> (W, u32) {
    let value = a.to_u64();
    let result = W::from_u64(value & value.wrapping_neg());
    (result, of_result(result) | when(value != 0, CF))
}

/// Ones up to and including the lowest one of `a`; CF says that `a` is zero.
#[inline]
pub fn blsmsk<W: Width>(a: W) -> (W, u32) {
    let value = a.to_u64();
    let result = W::from_u64(value ^ value.wrapping_sub(1));
    (result, of_result(result) | when(value == 0, CF))
}

/// `a` without its lowest one; CF says that `a` is zero.
#[inline]
pub fn blsr<W: Width>(a: W) -> (W, u32) {
    let value = a.to_u64();
    let result = W::from_u64(value & value.wrapping_sub(1));
    (result, of_result(result) | when(value == 0, CF))
}

/// `a` without the bits from `index[7:0]` on; CF says that the index is not below the operand
/// size.
#[inline]
pub fn bzhi<W: Width>(a: W, index: W) -> (W, u32) {
    let index = index.to_u64() as u8;
    let result = W::from_u64(a.to_u64() & low_ones(u32::from(index)));
    (result, of_result(result) | when(u32::from(index) >= W::BITS, CF))
}

/// The low bits of `a`, scattered to the ones of `mask`. No flag changes.
pub fn pdep<W: Width>(a: W, mask: W) -> W {
    let (mut source, mut mask, mut result) = (a.to_u64(), mask.to_u64(), 0);
    while mask != 0 {
        let lowest = mask & mask.wrapping_neg();
        if source & 1 != 0 {
            result |= lowest;
        }
        source >>= 1;
        mask ^= lowest;
    }
    W::from_u64(result)
}

/// The bits of `a` at the ones of `mask`, gathered at the low end. No flag changes.
pub fn pext<W: Width>(a: W, mask: W) -> W {
    let (source, mut mask, mut result, mut to) = (a.to_u64(), mask.to_u64(), 0, 0);
    while mask != 0 {
        let lowest = mask & mask.wrapping_neg();
        result |= u64::from(source & lowest != 0) << to;
        to += 1;
        mask ^= lowest;
    }
    W::from_u64(result)
}

fn low_ones(len: u32) -> u64 {
    1_u64.checked_shl(len).map_or(u64::MAX, |bit| bit - 1)
}
