//! The host's RDRAND and RDSEED.
#![allow(unsafe_code)]

use std::arch::x86_64::{_rdrand64_step, _rdseed64_step};

/// A number of RDRAND, if the host has it and gives one.
#[must_use]
pub fn random_number() -> Option<u64> {
    let mut number = 0;
    // SAFETY: RDRAND exists, as asked right before.
    let given = is_x86_feature_detected!("rdrand") && unsafe { _rdrand64_step(&mut number) } == 1;
    given.then_some(number)
}

/// A number of RDSEED, if the host has it and gives one.
#[must_use]
pub fn random_seed() -> Option<u64> {
    let mut number = 0;
    // SAFETY: RDSEED exists, as asked right before.
    let given = is_x86_feature_detected!("rdseed") && unsafe { _rdseed64_step(&mut number) } == 1;
    given.then_some(number)
}
