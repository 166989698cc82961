//! ANDN, BEXTR, BLSI, BLSMSK, BLSR, BZHI, PDEP, PEXT.

use std::arch::is_x86_feature_detected;

use cpu_alu::flags::STATUS;
use cpu_alu::{bmi, undefined};

use crate::operands::compare_binary;
use crate::{host_binary, host_three};

macro_rules! three {
    ($($name:ident: $op:literal of $feature:tt, $ours:expr, undefined $undefined:expr;)*) => {$(
        #[test]
        fn $name() {
            assert!(is_x86_feature_detected!($feature), "the test needs {}", $feature);
            compare_binary::<u32>($ours, host_three!($op, u32), $undefined);
            compare_binary::<u64>($ours, host_three!($op, u64), $undefined);
        }
    )*};
}

macro_rules! two {
    ($($name:ident: $op:literal, $ours:expr;)*) => {$(
        #[test]
        fn $name() {
            assert!(is_x86_feature_detected!("bmi1"), "the test needs BMI1");
            compare_binary::<u32>($ours, host_binary!($op, u32), undefined::BMI);
            compare_binary::<u64>($ours, host_binary!($op, u64), undefined::BMI);
        }
    )*};
}

three! {
    andn: "andn" of "bmi1", |a, b, _| bmi::andn(a, b), undefined undefined::BMI;
    bextr: "bextr" of "bmi1", |a, b, _| bmi::bextr(a, b), undefined undefined::BEXTR;
    bzhi: "bzhi" of "bmi2", |a, b, _| bmi::bzhi(a, b), undefined undefined::BMI;
    pdep: "pdep" of "bmi2", |a, b, flags| (bmi::pdep(a, b), flags & STATUS), undefined 0;
    pext: "pext" of "bmi2", |a, b, flags| (bmi::pext(a, b), flags & STATUS), undefined 0;
}

two! {
    blsi: "blsi", |_, b, _| bmi::blsi(b);
    blsmsk: "blsmsk", |_, b, _| bmi::blsmsk(b);
    blsr: "blsr", |_, b, _| bmi::blsr(b);
}
