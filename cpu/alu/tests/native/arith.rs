//! ADD, ADC, SUB, SBB, CMP, INC, DEC, NEG, AND, OR, XOR, TEST, NOT.

use cpu_alu::undefined::LOGIC;
use cpu_alu::{arith, flags, logic};

use crate::operands::{compare_binary, compare_unary};
use crate::{host_binary, host_unary};

macro_rules! binary {
    ($($name:ident: $op:literal, $ours:expr, undefined $undefined:expr;)*) => {$(
        #[test]
        fn $name() {
            compare_binary::<u8>($ours, host_binary!($op, u8), $undefined);
            compare_binary::<u16>($ours, host_binary!($op, u16), $undefined);
            compare_binary::<u32>($ours, host_binary!($op, u32), $undefined);
            compare_binary::<u64>($ours, host_binary!($op, u64), $undefined);
        }
    )*};
}

macro_rules! unary {
    ($($name:ident: $op:literal, $ours:expr;)*) => {$(
        #[test]
        fn $name() {
            compare_unary::<u8>($ours, host_unary!($op, u8), 0);
            compare_unary::<u16>($ours, host_unary!($op, u16), 0);
            compare_unary::<u32>($ours, host_unary!($op, u32), 0);
            compare_unary::<u64>($ours, host_unary!($op, u64), 0);
        }
    )*};
}

binary! {
    add: "add", |a, b, _| arith::add(a, b), undefined 0;
    adc: "adc", arith::adc, undefined 0;
    sub: "sub", |a, b, _| arith::sub(a, b), undefined 0;
    sbb: "sbb", arith::sbb, undefined 0;
    cmp: "cmp", |a, b, _| (a, arith::cmp(a, b)), undefined 0;
    and: "and", |a, b, _| logic::and(a, b), undefined LOGIC;
    or: "or", |a, b, _| logic::or(a, b), undefined LOGIC;
    xor: "xor", |a, b, _| logic::xor(a, b), undefined LOGIC;
    test: "test", |a, b, _| (a, logic::test(a, b)), undefined LOGIC;
}

unary! {
    inc: "inc", arith::inc;
    dec: "dec", arith::dec;
    neg: "neg", |a, _| arith::neg(a);
    not: "not", |a, flags| (logic::not(a), flags & flags::STATUS);
}
