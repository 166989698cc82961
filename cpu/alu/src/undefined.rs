//! The flags that the instruction reference leaves undefined, for comparison with a processor.
//!
//! The functions of this crate give what an AMD processor of the Zen 5 generation gives, measured,
//! but for BSF and BSR (which leave their undefined flags alone here). Other generations and makers
//! differ; programs do not depend on these flags.
//!
//! Masks of [`crate::flags::STATUS`] bits. Counts are masked counts ([`crate::Width::mask_count`]).

use crate::flags::{AF, CF, OF, PF, SF, STATUS, ZF};

/// AND, OR, XOR, TEST.
pub const LOGIC: u32 = AF;
/// MUL, IMUL.
pub const MUL: u32 = SF | ZF | AF | PF;
/// DIV, IDIV.
pub const DIV: u32 = STATUS;
/// BSF, BSR.
pub const BIT_SCAN: u32 = CF | OF | SF | AF | PF;
/// BT, BTS, BTR, BTC.
pub const BIT_TEST: u32 = OF | SF | AF | PF;
/// TZCNT, LZCNT.
pub const COUNT_ZEROES: u32 = OF | SF | PF | AF;
/// DAA, DAS.
pub const PACKED_DECIMAL: u32 = OF;
/// AAA, AAS.
pub const UNPACKED_DECIMAL: u32 = OF | SF | ZF | PF;
/// AAM, AAD.
pub const DECIMAL_DIVISION: u32 = OF | AF | CF;
/// ANDN, BLSI, BLSMSK, BLSR, BZHI.
pub const BMI: u32 = AF | PF;
/// BEXTR.
pub const BEXTR: u32 = AF | SF | PF;

/// SHL, SHR.
pub const fn shift_logical(bits: u32, count: u32) -> u32 {
    let carry = if count >= bits { CF } else { 0 };
    carry | shift_arithmetic(count)
}

/// SAR.
pub const fn shift_arithmetic(count: u32) -> u32 {
    match count {
        0 => 0,
        1 => AF,
        _ => AF | OF,
    }
}

/// ROL, ROR, RCL, RCR.
pub const fn rotate(count: u32) -> u32 {
    if count > 1 { OF } else { 0 }
}

/// SHLD, SHRD. Above the operand size the result is undefined, too.
pub const fn shift_double(bits: u32, count: u32) -> u32 {
    if count > bits { STATUS } else { shift_arithmetic(count) }
}
