//! SHL (SAL), SHR, SAR, SHLD, SHRD.
//!
//! Counts are masked to five bits, six for 64-bit operands; a masked count of zero changes
//! nothing, flags included. Of the undefined flags, AF is set, and OF is that of a last step of one.

use crate::Width;
use crate::flags::{AF, CF, OF, STATUS, of_result, when};

/// Shift left; zeroes enter.
#[inline]
pub fn shl<W: Width>(a: W, count: u8, flags: u32) -> (W, u32) {
    let count = W::mask_count(count);
    if count == 0 {
        return (a, flags & STATUS);
    }
    let value = a.to_u64();
    let result = W::from_u64(value << count);
    let carry = count <= W::BITS && (value >> (W::BITS - count)) & 1 != 0;
    let overflow = result.sign() != carry;
    (result, AF | when(carry, CF) | when(overflow, OF) | of_result(result))
}

/// Shift right; zeroes enter.
#[inline]
pub fn shr<W: Width>(a: W, count: u8, flags: u32) -> (W, u32) {
    let count = W::mask_count(count);
    if count == 0 {
        return (a, flags & STATUS);
    }
    let before_last = a.to_u64() >> (count - 1);
    let result = W::from_u64(before_last >> 1);
    let overflow = W::from_u64(before_last).sign();
    (result, AF | when(before_last & 1 != 0, CF) | when(overflow, OF) | of_result(result))
}

/// Shift right; copies of the sign enter.
#[inline]
pub fn sar<W: Width>(a: W, count: u8, flags: u32) -> (W, u32) {
    let count = W::mask_count(count);
    if count == 0 {
        return (a, flags & STATUS);
    }
    let before_last = a.to_i64() >> (count - 1);
    let result = W::from_u64((before_last >> 1) as u64);
    (result, AF | when(before_last & 1 != 0, CF) | of_result(result))
}

/// Shift `dst` left; the top bits of `src` enter, and after them `src` again.
#[inline]
pub fn shld<W: Width>(dst: W, src: W, count: u8, flags: u32) -> (W, u32) {
    let count = W::mask_count(count);
    if count == 0 {
        return (dst, flags & STATUS);
    }
    let before_last = double_left(dst, src, count - 1);
    let result = double_left(dst, src, count);
    if count > W::BITS {
        return (result, AF | of_result(result));
    }
    (result, double_shift_flags(before_last.sign(), before_last, result))
}

/// Shift `dst` right; the low bits of `src` enter, and after them `src` again.
#[inline]
pub fn shrd<W: Width>(dst: W, src: W, count: u8, flags: u32) -> (W, u32) {
    let count = W::mask_count(count);
    if count == 0 {
        return (dst, flags & STATUS);
    }
    let before_last = double_right(dst, src, count - 1);
    let result = double_right(dst, src, count);
    let carry = count <= W::BITS && before_last.to_u64() & 1 != 0;
    (result, double_shift_flags(carry, before_last, result))
}

/// The top operand of `dst:src:src` shifted left. Counts of 64-bit operands stay below the
/// operand size and never see the third part.
#[inline(always)]
fn double_left<W: Width>(dst: W, src: W, count: u32) -> W {
    let pair = u128::from(dst.to_u64()) << W::BITS | u128::from(src.to_u64());
    if W::BITS == 64 {
        return W::from_u64((pair << count >> 64) as u64);
    }
    let triple = pair << W::BITS | u128::from(src.to_u64());
    W::from_u64((triple << count >> (2 * W::BITS)) as u64)
}

/// The low operand of `src:src:dst` shifted right, as [`double_left`].
#[inline(always)]
fn double_right<W: Width>(dst: W, src: W, count: u32) -> W {
    let pair = u128::from(src.to_u64()) << W::BITS | u128::from(dst.to_u64());
    if W::BITS == 64 {
        return W::from_u64((pair >> count) as u64);
    }
    let triple = u128::from(src.to_u64()) << (2 * W::BITS) | pair;
    W::from_u64((triple >> count) as u64)
}

/// OF says that the last step changed the sign.
#[inline(always)]
fn double_shift_flags<W: Width>(carry: bool, before_last: W, result: W) -> u32 {
    let overflow = before_last.sign() != result.sign();
    AF | when(carry, CF) | when(overflow, OF) | of_result(result)
}
