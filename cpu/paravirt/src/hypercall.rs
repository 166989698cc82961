//! Hypercalls: numbers and errors.
//!
//! `Documentation/virt/kvm/x86/hypercalls.rst`. The number is in RAX, arguments are in RBX, RCX, RDX
//! and RSI, the answer in RAX.

use crate::features;

/// Makes the host look whether an interrupt waits.
pub const VAPIC_POLL_IRQ: u64 = 1;
/// Wakes a processor, by APIC ID, out of HLT.
pub const KICK_CPU: u64 = 5;
/// Writes [`crate::clock::ClockPairing`].
pub const CLOCK_PAIRING: u64 = 9;
/// Sends an interrupt to those of 128 processors (64 outside 64-bit mode) that a bitmap names.
pub const SEND_IPI: u64 = 10;
/// Gives the rest of the time slice to a processor, by APIC ID.
pub const SCHED_YIELD: u64 = 11;
/// Guest pages become private or shared; the client's.
pub const MAP_GPA_RANGE: u64 = 12;

/// Not from outside ring 0.
pub const EPERM: u64 = 1_u64.wrapping_neg();
/// The memory for the answer is not there.
pub const EFAULT: u64 = 14_u64.wrapping_neg();
/// An argument is not understood.
pub const EINVAL: u64 = 22_u64.wrapping_neg();
/// Not with this clock, or these processors.
pub const EOPNOTSUPP: u64 = 95_u64.wrapping_neg();
/// No such hypercall, or not for this guest.
pub const ENOSYS: u64 = 1000_u64.wrapping_neg();

/// The only clock of [`CLOCK_PAIRING`].
pub const CLOCK_PAIRING_WALLCLOCK: u64 = 0;

/// The feature that announces a hypercall; 0 for one that every guest has.
#[must_use]
pub const fn feature(number: u64) -> u32 {
    match number {
        KICK_CPU => features::PV_UNHALT,
        SEND_IPI => features::PV_SEND_IPI,
        SCHED_YIELD => features::PV_SCHED_YIELD,
        _ => 0,
    }
}
