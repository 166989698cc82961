//! BSF, BSR, BT, BTS, BTR, BTC, BSWAP, POPCNT, TZCNT, LZCNT.

use std::arch::is_x86_feature_detected;

use cpu_alu::{Width, bit, flags, undefined};

use crate::operands::{compare_binary, compare_unary};
use crate::{host_binary, host_unary};

macro_rules! wide_binary {
    ($op:literal, $ours:expr, $undefined:expr) => {
        compare_binary::<u16>($ours, host_binary!($op, u16), $undefined);
        compare_binary::<u32>($ours, host_binary!($op, u32), $undefined);
        compare_binary::<u64>($ours, host_binary!($op, u64), $undefined);
    };
}

#[test]
fn bsf_and_bsr_leave_the_destination_where_no_bit_is_set() {
    wide_binary!("bsf", |dst, src, _| bit::bsf(dst, src), undefined::BIT_SCAN);
    wide_binary!("bsr", |dst, src, _| bit::bsr(dst, src), undefined::BIT_SCAN);
}

#[test]
fn bit_tests_take_the_index_modulo_the_operand_size() {
    fn index<W: Width>(b: W) -> u64 {
        b.to_u64()
    }
    wide_binary!("bt", |a, b, flags| (a, bit::bt(a, index(b), flags)), undefined::BIT_TEST);
    wide_binary!("bts", |a, b, flags| bit::bts(a, index(b), flags), undefined::BIT_TEST);
    wide_binary!("btr", |a, b, flags| bit::btr(a, index(b), flags), undefined::BIT_TEST);
    wide_binary!("btc", |a, b, flags| bit::btc(a, index(b), flags), undefined::BIT_TEST);
}

#[test]
fn bswap() {
    compare_unary::<u32>(|a, f| (bit::bswap(a), f & flags::STATUS), host_unary!("bswap", u32), 0);
    compare_unary::<u64>(|a, f| (bit::bswap(a), f & flags::STATUS), host_unary!("bswap", u64), 0);
    assert_eq!(bit::bswap(0x1234_u16), 0);
}

#[test]
fn popcnt() {
    assert!(is_x86_feature_detected!("popcnt"), "the test needs a processor with POPCNT");
    wide_binary!("popcnt", |_, b, _| bit::popcnt(b), 0);
}

#[test]
fn tzcnt_and_lzcnt_give_the_operand_size_where_no_bit_is_set() {
    assert!(is_x86_feature_detected!("bmi1"), "the test needs a processor with BMI1");
    assert!(is_x86_feature_detected!("lzcnt"), "the test needs a processor with LZCNT");
    wide_binary!("tzcnt", |_, b, flags| bit::tzcnt(b, flags), undefined::COUNT_ZEROES);
    wide_binary!("lzcnt", |_, b, flags| bit::lzcnt(b, flags), undefined::COUNT_ZEROES);
}
