//! MUL, IMUL, DIV, IDIV. Where a division must fail is checked against wide arithmetic, since the
//! processor answers with a signal.

use cpu_alu::{DivideError, Width, muldiv, undefined};

use crate::operands::{FLAGS, agree, compare_binary, corners, values};
use crate::{host_accumulator, host_binary};

fn compare_product<W: Width>(
    ours: impl Fn(W, W, u32) -> (W, W, u32),
    host: impl Fn(W, W, W, u32) -> (W, W, u32),
) {
    for a in values::<W>() {
        for b in values::<W>() {
            for flags in FLAGS {
                let ours = ours(a, b, flags);
                let host = host(a, W::from_u64(0), b, flags);
                let case = || format!("{a:x?} * {b:x?}, flags {flags:#x}");
                let product = |(low, high, flags): (W, W, u32)| ((low, high), flags);
                agree(case, product(ours), product(host), undefined::MUL);
            }
        }
    }
}

fn compare_quotient<W: Width>(
    ours: impl Fn(W, W, W) -> Result<(W, W), DivideError>,
    host: impl Fn(W, W, W, u32) -> (W, W, u32),
    fits: impl Fn(W, W, W) -> bool,
) {
    for high in corners::<W>() {
        for low in values::<W>() {
            for divisor in values::<W>() {
                let ours = ours(high, low, divisor);
                let case = format_args!("{high:x?}:{low:x?} / {divisor:x?}").to_string();
                assert_eq!(ours.is_ok(), fits(high, low, divisor), "{case}");
                if let Ok(ours) = ours {
                    let (quotient, remainder, _) = host(low, high, divisor, 0);
                    assert_eq!(ours, (quotient, remainder), "{case}");
                }
            }
        }
    }
}

fn unsigned_fits<W: Width>(high: W, low: W, divisor: W) -> bool {
    let dividend = u128::from(high.to_u64()) << W::BITS | u128::from(low.to_u64());
    let quotient = dividend.checked_div(u128::from(divisor.to_u64()));
    quotient.is_some_and(|quotient| quotient >> W::BITS == 0)
}

fn signed_fits<W: Width>(high: W, low: W, divisor: W) -> bool {
    let dividend = i128::from(high.to_i64()) << W::BITS | i128::from(low.to_u64());
    let limit = 1_i128 << (W::BITS - 1);
    let quotient = dividend.checked_div(i128::from(divisor.to_i64()));
    quotient.is_some_and(|quotient| (-limit..limit).contains(&quotient))
}

#[test]
fn mul() {
    compare_product::<u8>(muldiv::mul, host_accumulator!("mul", u8));
    compare_product::<u16>(muldiv::mul, host_accumulator!("mul", u16));
    compare_product::<u32>(muldiv::mul, host_accumulator!("mul", u32));
    compare_product::<u64>(muldiv::mul, host_accumulator!("mul", u64));
}

#[test]
fn imul_of_one_operand() {
    compare_product::<u8>(muldiv::imul_wide, host_accumulator!("imul", u8));
    compare_product::<u16>(muldiv::imul_wide, host_accumulator!("imul", u16));
    compare_product::<u32>(muldiv::imul_wide, host_accumulator!("imul", u32));
    compare_product::<u64>(muldiv::imul_wide, host_accumulator!("imul", u64));
}

#[test]
fn imul_of_two_operands() {
    compare_binary::<u16>(muldiv::imul, host_binary!("imul", u16), undefined::MUL);
    compare_binary::<u32>(muldiv::imul, host_binary!("imul", u32), undefined::MUL);
    compare_binary::<u64>(muldiv::imul, host_binary!("imul", u64), undefined::MUL);
}

#[test]
fn div() {
    compare_quotient::<u8>(muldiv::div, host_accumulator!("div", u8), unsigned_fits);
    compare_quotient::<u16>(muldiv::div, host_accumulator!("div", u16), unsigned_fits);
    compare_quotient::<u32>(muldiv::div, host_accumulator!("div", u32), unsigned_fits);
    compare_quotient::<u64>(muldiv::div, host_accumulator!("div", u64), unsigned_fits);
}

#[test]
fn idiv() {
    compare_quotient::<u8>(muldiv::idiv, host_accumulator!("idiv", u8), signed_fits);
    compare_quotient::<u16>(muldiv::idiv, host_accumulator!("idiv", u16), signed_fits);
    compare_quotient::<u32>(muldiv::idiv, host_accumulator!("idiv", u32), signed_fits);
    compare_quotient::<u64>(muldiv::idiv, host_accumulator!("idiv", u64), signed_fits);
}
