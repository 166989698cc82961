//! AND, OR, XOR, TEST, NOT. CF and OF are cleared; AF, undefined in the manual, is cleared as
//! both Intel and AMD processors do.

use crate::Width;
use crate::flags::of_result;

/// `a & b`.
#[inline]
pub fn and<W: Width>(a: W, b: W) -> (W, u32) {
    logical(a.to_u64() & b.to_u64())
}

/// `a | b`.
#[inline]
pub fn or<W: Width>(a: W, b: W) -> (W, u32) {
    logical(a.to_u64() | b.to_u64())
}

/// `a ^ b`.
#[inline]
pub fn xor<W: Width>(a: W, b: W) -> (W, u32) {
    logical(a.to_u64() ^ b.to_u64())
}

/// The flags of `a & b`.
#[inline]
pub fn test<W: Width>(a: W, b: W) -> u32 {
    and(a, b).1
}

/// Every bit inverted; no flag changes.
#[inline]
pub fn not<W: Width>(a: W) -> W {
    W::from_u64(!a.to_u64())
}

#[inline(always)]
fn logical<W: Width>(wide: u64) -> (W, u32) {
    let result = W::from_u64(wide);
    (result, of_result(result))
}
