//! ROL, ROR, RCL, RCR. Only CF and OF change.
//!
//! Counts are masked to five bits, six for 64-bit operands; a masked count of zero changes
//! nothing. OF is defined for a count of one; for others it is what a last step of one would give,
//! as processors do.

use crate::Width;
use crate::flags::{CF, OF, STATUS, when};

/// Rotate left; CF is the bit that went around last.
#[inline]
pub fn rol<W: Width>(a: W, count: u8, flags: u32) -> (W, u32) {
    let count = W::mask_count(count);
    if count == 0 {
        return (a, flags & STATUS);
    }
    let result = rotate_left(a, count % W::BITS);
    let carry = result.to_u64() & 1 != 0;
    (result, with_carry_overflow(flags, carry, result.sign() != carry))
}

/// Rotate right; CF is the bit that went around last.
#[inline]
pub fn ror<W: Width>(a: W, count: u8, flags: u32) -> (W, u32) {
    let count = W::mask_count(count);
    if count == 0 {
        return (a, flags & STATUS);
    }
    let result = rotate_left(a, (W::BITS - count % W::BITS) % W::BITS);
    (result, with_carry_overflow(flags, result.sign(), top_bits_differ(result)))
}

/// Rotate left through CF: `BITS + 1` bits.
#[inline]
pub fn rcl<W: Width>(a: W, count: u8, flags: u32) -> (W, u32) {
    let count = W::mask_count(count);
    if count == 0 {
        return (a, flags & STATUS);
    }
    let (result, carry) = rotate_through_carry(a, flags, count % (W::BITS + 1));
    (result, with_carry_overflow(flags, carry, result.sign() != carry))
}

/// Rotate right through CF: `BITS + 1` bits.
#[inline]
pub fn rcr<W: Width>(a: W, count: u8, flags: u32) -> (W, u32) {
    let count = W::mask_count(count);
    if count == 0 {
        return (a, flags & STATUS);
    }
    let bits = W::BITS + 1;
    let (result, carry) = rotate_through_carry(a, flags, (bits - count % bits) % bits);
    (result, with_carry_overflow(flags, carry, top_bits_differ(result)))
}

#[inline(always)]
fn with_carry_overflow(flags: u32, carry: bool, overflow: bool) -> u32 {
    (flags & STATUS & !(CF | OF)) | when(carry, CF) | when(overflow, OF)
}

#[inline(always)]
fn top_bits_differ<W: Width>(value: W) -> bool {
    value.sign() != W::from_u64(value.to_u64() << 1).sign()
}

/// `count` below `BITS`.
#[inline(always)]
fn rotate_left<W: Width>(a: W, count: u32) -> W {
    let value = u128::from(a.to_u64());
    W::from_u64(((value << count) | (value << count >> W::BITS)) as u64)
}

/// Rotates CF and `a`, CF on top, left by a `count` of at most `BITS`; returns the new CF too.
#[inline(always)]
fn rotate_through_carry<W: Width>(a: W, flags: u32, count: u32) -> (W, bool) {
    let bits = W::BITS + 1;
    let value = u128::from(a.to_u64()) | (u128::from(flags & CF) << W::BITS);
    let rotated = (value << count) | (value >> (bits - count));
    (W::from_u64(rotated as u64), (rotated >> W::BITS) & 1 != 0)
}
