//! Every function against the processor that runs the test.
//!
//! Operands of 8 bits are tried in all combinations, wider ones from corner values and a fixed
//! pseudo-random sequence. Results must agree, and flags where the manual defines them.
//! Inline assembly is the point of these tests, hence `unsafe`.
#![allow(unsafe_code)]
#![cfg(target_arch = "x86_64")]

mod arith;
mod bcd;
mod bit;
mod bmi;
mod compatibility_mode;
mod host;
mod muldiv;
mod operands;
mod rotate_shift;
