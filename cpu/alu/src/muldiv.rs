//! MUL, IMUL, DIV, IDIV.
//!
//! CF and OF of a multiplication say that the product does not fit the low half; the other flags,
//! undefined in the manual, are left alone. After a division all six are undefined: they are what AMD's
//! Zen 5 leaves.

use std::fmt;

use crate::Width;
use crate::flags::{AF, CF, OF, STATUS, when};

/// Division by zero, or a quotient that does not fit: exception #DE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DivideError;

impl fmt::Display for DivideError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("divide error")
    }
}

impl std::error::Error for DivideError {}

/// Unsigned product of full size: (low half, high half, flags).
#[inline]
pub fn mul<W: Width>(a: W, b: W, flags: u32) -> (W, W, u32) {
    let product = u128::from(a.to_u64()) * u128::from(b.to_u64());
    let high = W::from_u64((product >> W::BITS) as u64);
    let low = W::from_u64(product as u64);
    (low, high, product_flags(high.to_u64() != 0, flags))
}

/// Signed product of full size, one-operand IMUL: (low half, high half, flags).
#[inline]
pub fn imul_wide<W: Width>(a: W, b: W, flags: u32) -> (W, W, u32) {
    let product = i128::from(a.to_i64()) * i128::from(b.to_i64());
    let high = W::from_u64((product >> W::BITS) as u64);
    let low = W::from_u64(product as u64);
    (low, high, product_flags(i128::from(low.to_i64()) != product, flags))
}

/// Signed product of operand size, two- and three-operand IMUL.
#[inline]
pub fn imul<W: Width>(a: W, b: W, flags: u32) -> (W, u32) {
    let (low, _, flags) = imul_wide(a, b, flags);
    (low, flags)
}

/// The status flags after a division that had no error.
#[inline]
#[must_use]
pub const fn flags_after_division(flags: u32) -> u32 {
    flags & (CF | OF) | AF
}

/// Unsigned `high:low / divisor`: (quotient, remainder).
///
/// # Errors
/// [`DivideError`] for a zero divisor or a quotient above the operand size.
#[inline]
pub fn div<W: Width>(high: W, low: W, divisor: W) -> Result<(W, W), DivideError> {
    let (high, low, divisor) = (high.to_u64(), low.to_u64(), divisor.to_u64());
    if divisor <= high {
        return Err(DivideError);
    }
    if high == 0 {
        return Ok((W::from_u64(low / divisor), W::from_u64(low % divisor)));
    }
    let dividend = (u128::from(high) << W::BITS) | u128::from(low);
    let (quotient, remainder) = (dividend / u128::from(divisor), dividend % u128::from(divisor));
    Ok((W::from_u64(quotient as u64), W::from_u64(remainder as u64)))
}

/// Signed `high:low / divisor`, truncated towards zero: (quotient, remainder with the sign of the
/// dividend).
///
/// # Errors
/// [`DivideError`] for a zero divisor or a quotient that is not a signed number of operand size.
#[inline]
pub fn idiv<W: Width>(high: W, low: W, divisor: W) -> Result<(W, W), DivideError> {
    let dividend = (i128::from(high.to_i64()) << W::BITS) | i128::from(low.to_u64());
    let divisor = i128::from(divisor.to_i64());
    // `None` is a zero divisor, or the most negative dividend by -1.
    let quotient = dividend.checked_div(divisor).ok_or(DivideError)?;
    let narrow = W::from_u64(quotient as u64);
    if i128::from(narrow.to_i64()) != quotient {
        return Err(DivideError);
    }
    Ok((narrow, W::from_u64((dividend % divisor) as u64)))
}

#[inline(always)]
fn product_flags(overflow: bool, flags: u32) -> u32 {
    (flags & STATUS & !(CF | OF)) | when(overflow, CF | OF)
}
