//! ADD, ADC, SUB, SBB, CMP, INC, DEC, NEG.

use crate::Width;
use crate::flags::{CF, borrows_of_difference, carries_of_sum, of_carries, of_result};

/// `a + b`.
#[inline]
pub fn add<W: Width>(a: W, b: W) -> (W, u32) {
    sum(a, b, 0)
}

/// `a + b + CF`.
#[inline]
pub fn adc<W: Width>(a: W, b: W, flags: u32) -> (W, u32) {
    sum(a, b, flags & CF)
}

/// `a - b`.
#[inline]
pub fn sub<W: Width>(a: W, b: W) -> (W, u32) {
    difference(a, b, 0)
}

/// `a - b - CF`.
#[inline]
pub fn sbb<W: Width>(a: W, b: W, flags: u32) -> (W, u32) {
    difference(a, b, flags & CF)
}

/// The flags of `a - b`.
#[inline]
pub fn cmp<W: Width>(a: W, b: W) -> u32 {
    difference(a, b, 0).1
}

/// `a + 1`; leaves CF alone.
#[inline]
pub fn inc<W: Width>(a: W, flags: u32) -> (W, u32) {
    let (result, new) = sum(a, W::from_u64(1), 0);
    (result, (new & !CF) | (flags & CF))
}

/// `a - 1`; leaves CF alone.
#[inline]
pub fn dec<W: Width>(a: W, flags: u32) -> (W, u32) {
    let (result, new) = difference(a, W::from_u64(1), 0);
    (result, (new & !CF) | (flags & CF))
}

/// `0 - a`; CF says whether `a` was not zero.
#[inline]
pub fn neg<W: Width>(a: W) -> (W, u32) {
    difference(W::from_u64(0), a, 0)
}

#[inline(always)]
fn sum<W: Width>(a: W, b: W, carry: u32) -> (W, u32) {
    let (a, b) = (a.to_u64(), b.to_u64());
    let result = W::from_u64(a.wrapping_add(b).wrapping_add(u64::from(carry)));
    let carries = carries_of_sum(a, b, result.to_u64());
    (result, of_carries::<W>(carries) | of_result(result))
}

#[inline(always)]
fn difference<W: Width>(a: W, b: W, borrow: u32) -> (W, u32) {
    let (a, b) = (a.to_u64(), b.to_u64());
    let result = W::from_u64(a.wrapping_sub(b).wrapping_sub(u64::from(borrow)));
    let borrows = borrows_of_difference(a, b, result.to_u64());
    (result, of_carries::<W>(borrows) | of_result(result))
}
