//! Decimal adjustment: DAA, DAS, AAA, AAS, AAM, AAD. Not valid in 64-bit mode.
//!
//! Follows the pseudocode of the instruction reference; AX is AH:AL. Undefined flags
//! are those of the addition or subtraction that the adjustment is; AAM clears them.

use crate::flags::{AF, CF, of_result, when};
use crate::{DivideError, arith};

/// DAA: AL after the addition of packed decimals.
pub fn daa(al: u8, flags: u32) -> (u8, u32) {
    let (low, high) = packed_adjustment(al, flags);
    let (result, sum) = arith::add(al, low + high);
    (result, (sum & !(AF | CF)) | when(low != 0, AF) | when(high != 0, CF))
}

/// DAS: AL after the subtraction of packed decimals.
pub fn das(al: u8, flags: u32) -> (u8, u32) {
    let (low, high) = packed_adjustment(al, flags);
    let (result, difference) = arith::sub(al, low + high);
    // The low digit alone may borrow: AL below 6 with AF set.
    let carry = high != 0 || al < low;
    (result, (difference & !(AF | CF)) | when(low != 0, AF) | when(carry, CF))
}

/// AAA: AX after the addition of unpacked decimals.
pub fn aaa(ax: u16, flags: u32) -> (u16, u32) {
    let carry = unpacked_carry(ax, flags);
    let (adjusted, sum) = arith::add(ax, if carry { 0x106 } else { 0 });
    (adjusted & 0xff0f, (sum & !(AF | CF)) | when(carry, AF | CF))
}

/// AAS: AX after the subtraction of unpacked decimals.
pub fn aas(ax: u16, flags: u32) -> (u16, u32) {
    let carry = unpacked_carry(ax, flags);
    let (adjusted, difference) = arith::sub(ax, if carry { 0x106 } else { 0 });
    (adjusted & 0xff0f, (difference & !(AF | CF)) | when(carry, AF | CF))
}

/// AAM: AH and AL are quotient and remainder of AL by the immediate (10 in plain assembly).
///
/// # Errors
/// [`DivideError`] when the immediate is zero.
pub fn aam(al: u8, base: u8) -> Result<(u16, u32), DivideError> {
    let quotient = al.checked_div(base).ok_or(DivideError)?;
    let remainder = al % base;
    Ok((u16::from_be_bytes([quotient, remainder]), of_result(remainder)))
}

/// AAD: AL is AH times the immediate (10 in plain assembly) plus AL; AH is zero.
pub fn aad(ax: u16, base: u8) -> (u16, u32) {
    let [high, low] = ax.to_be_bytes();
    let (result, flags) = arith::add(low, high.wrapping_mul(base));
    (u16::from(result), flags)
}

/// What the digits of AL are corrected by: (low, high).
fn packed_adjustment(al: u8, flags: u32) -> (u8, u8) {
    let low = if al & 0xf > 9 || flags & AF != 0 { 6 } else { 0 };
    let high = if al > 0x99 || flags & CF != 0 { 0x60 } else { 0 };
    (low, high)
}

/// Whether the digit in AL is beyond nine, or was carried out of.
fn unpacked_carry(ax: u16, flags: u32) -> bool {
    ax & 0xf > 9 || flags & AF != 0
}
