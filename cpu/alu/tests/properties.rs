//! Laws that hold between the functions, whatever the processor.

use cpu_alu::flags::{CF, STATUS};
use cpu_alu::{Width, arith, bit, bmi, muldiv, rotate, shift};
use proptest::prelude::*;

fn status() -> impl Strategy<Value = u32> {
    any::<u32>().prop_map(|flags| flags & STATUS)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn subtraction_undoes_addition(a: u32, b: u32) {
        prop_assert_eq!(arith::sub(arith::add(a, b).0, b).0, a);
    }

    #[test]
    fn carries_chain_into_wider_additions(a: u64, b: u64) {
        let (low, carry) = arith::add(a as u32, b as u32);
        let (high, flags) = arith::adc((a >> 32) as u32, (b >> 32) as u32, carry);
        let (whole, whole_flags) = arith::add(a, b);
        prop_assert_eq!(u64::from(high) << 32 | u64::from(low), whole);
        prop_assert_eq!(flags & CF, whole_flags & CF);
    }

    #[test]
    fn borrows_chain_into_wider_subtractions(a: u64, b: u64) {
        let (low, borrow) = arith::sub(a as u32, b as u32);
        let (high, flags) = arith::sbb((a >> 32) as u32, (b >> 32) as u32, borrow);
        let (whole, whole_flags) = arith::sub(a, b);
        prop_assert_eq!(u64::from(high) << 32 | u64::from(low), whole);
        prop_assert_eq!(flags & CF, whole_flags & CF);
    }

    #[test]
    fn a_masked_count_of_zero_changes_nothing(a: u64, flags in status()) {
        for count in [0, 64, 128, 192] {
            for operation in [shift::shl, shift::shr, shift::sar, rotate::rol, rotate::rcr] {
                prop_assert_eq!(operation(a, count, flags), (a, flags));
            }
            prop_assert_eq!(shift::shld(a, !a, count, flags), (a, flags));
        }
    }

    #[test]
    fn opposite_rotations_cancel(a: u16, count: u8, flags in status()) {
        let (left, _) = rotate::rol(a, count, flags);
        prop_assert_eq!(rotate::ror(left, count, flags).0, a);
        let (left, carry) = rotate::rcl(a, count, flags);
        let (back, after) = rotate::rcr(left, count, carry);
        prop_assert_eq!(back, a);
        prop_assert_eq!(after & CF, flags & CF);
    }

    #[test]
    fn division_undoes_multiplication(a: u64, b in 1..=u64::MAX) {
        let (low, high, _) = muldiv::mul(a, b, 0);
        prop_assert_eq!(muldiv::div(high, low, b), Ok((a, 0)));
    }

    #[test]
    fn signed_division_leaves_a_remainder_of_the_sign_of_the_dividend(
        high in -1_i64..=0, low: u64, divisor: i64,
    ) {
        if let Ok((quotient, remainder)) = muldiv::idiv(high as u64, low, divisor as u64) {
            let dividend = i128::from(high) << 64 | i128::from(low);
            let (quotient, remainder) = (quotient as i64, remainder as i64);
            let product = i128::from(quotient) * i128::from(divisor);
            prop_assert_eq!(product + i128::from(remainder), dividend);
            prop_assert!(remainder == 0 || (remainder < 0) == (dividend < 0));
        }
    }

    #[test]
    fn extraction_undoes_deposit(a: u64, mask: u64) {
        let (kept, _) = bmi::bzhi(a, u64::from(mask.count_ones()));
        prop_assert_eq!(bmi::pext(bmi::pdep(a, mask), mask), kept);
    }

    #[test]
    fn bit_tests_report_the_old_bit(a: u32, index: u64, flags in status()) {
        let old = bit::bt(a, index, flags);
        prop_assert_eq!(old & CF != 0, a >> (index % 32) & 1 != 0);
        let (set, _) = bit::bts(a, index, flags);
        prop_assert!(bit::bt(set, index, 0) & CF != 0);
        let (cleared, _) = bit::btr(a, index, flags);
        prop_assert!(bit::bt(cleared, index, 0) & CF == 0);
        let (inverted, _) = bit::btc(a, index, flags);
        prop_assert_eq!(bit::btc(inverted, index, 0).0, a);
    }
}

#[test]
fn counts_are_masked_by_the_operand_size() {
    assert_eq!(u8::mask_count(0xff), 31);
    assert_eq!(u32::mask_count(32), 0);
    assert_eq!(u64::mask_count(0xff), 63);
}
