//! The host's time-stamp counter.
#![allow(unsafe_code)]

use std::arch::x86_64::_rdtsc;

/// The count now.
#[must_use]
pub fn host_tsc() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC; no operating system here takes it from user code.
    unsafe { _rdtsc() }
}
