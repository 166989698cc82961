//! Bits of an operand: BSF, BSR, BT, BTS, BTR, BTC, BSWAP, POPCNT, TZCNT, LZCNT. Undefined flags are
//! what AMD's Zen 5 leaves.

use crate::Width;
use crate::flags::{CF, OF, PF, STATUS, ZF, even_parity, when};

/// Number of the lowest one of `src`; `dst` if there is none, as processors do (the AMD manual
/// says so, the Intel manual since 2023).
#[inline]
pub fn bsf<W: Width>(dst: W, src: W) -> (W, u32) {
    scan(dst, src, u64::trailing_zeros)
}

/// Number of the highest one of `src`; `dst` if there is none, as processors do.
#[inline]
pub fn bsr<W: Width>(dst: W, src: W) -> (W, u32) {
    scan(dst, src, |value| 63 - value.leading_zeros())
}

/// CF is bit `index` of `a`, modulo the operand size.
///
/// For a memory operand with the index in a register, the caller adds the index divided by the
/// operand size to the address first.
#[inline]
pub fn bt<W: Width>(a: W, index: u64, flags: u32) -> u32 {
    (flags & STATUS & !CF) | when(a.to_u64() & mask::<W>(index) != 0, CF)
}

/// As [`bt`], and sets the bit.
#[inline]
pub fn bts<W: Width>(a: W, index: u64, flags: u32) -> (W, u32) {
    (W::from_u64(a.to_u64() | mask::<W>(index)), bt(a, index, flags))
}

/// As [`bt`], and clears the bit.
#[inline]
pub fn btr<W: Width>(a: W, index: u64, flags: u32) -> (W, u32) {
    (W::from_u64(a.to_u64() & !mask::<W>(index)), bt(a, index, flags))
}

/// As [`bt`], and inverts the bit.
#[inline]
pub fn btc<W: Width>(a: W, index: u64, flags: u32) -> (W, u32) {
    (W::from_u64(a.to_u64() ^ mask::<W>(index)), bt(a, index, flags))
}

/// The bytes in opposite order. With 16-bit operands the manual leaves the result undefined;
/// processors give zero, and so does this.
#[inline]
pub fn bswap<W: Width>(a: W) -> W {
    match W::BITS {
        16 => W::from_u64(0),
        bits => W::from_u64(a.to_u64().swap_bytes() >> (64 - bits)),
    }
}

/// The number of ones. All flags but ZF are cleared.
#[inline]
pub fn popcnt<W: Width>(a: W) -> (W, u32) {
    let ones = a.to_u64().count_ones();
    (W::from_u64(u64::from(ones)), when(ones == 0, ZF))
}

/// The number of zeroes below the lowest one; the operand size (and CF) if there is no one.
#[inline]
pub fn tzcnt<W: Width>(a: W, flags: u32) -> (W, u32) {
    count::<W>(a.to_u64().trailing_zeros().min(W::BITS), flags)
}

/// The number of zeroes above the highest one; the operand size (and CF) if there is no one.
#[inline]
pub fn lzcnt<W: Width>(a: W, flags: u32) -> (W, u32) {
    count::<W>(a.to_u64().leading_zeros() - (64 - W::BITS), flags)
}

/// Of the undefined flags PF tells about the number, or is set without one; the others are cleared.
#[inline(always)]
fn scan<W: Width>(dst: W, src: W, find: fn(u64) -> u32) -> (W, u32) {
    match src.to_u64() {
        0 => (dst, ZF | PF),
        value => {
            let number = find(value);
            (W::from_u64(number.into()), when(even_parity(number.into()), PF))
        }
    }
}

#[inline(always)]
fn mask<W: Width>(index: u64) -> u64 {
    1 << (index % u64::from(W::BITS))
}

/// OF, undefined as SF, PF and AF, is left alone; those are cleared.
#[inline(always)]
fn count<W: Width>(zeroes: u32, flags: u32) -> (W, u32) {
    let kept = flags & OF;
    (W::from_u64(u64::from(zeroes)), kept | when(zeroes == W::BITS, CF) | when(zeroes == 0, ZF))
}
