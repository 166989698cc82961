//! Integer instructions of x86 as pure functions of operands and flags.
//!
//! Follows the operation sections of the instruction reference (Intel SDM volume 2, AMD APM
//! volume 3). One module for each family; every function is generic over the operand size
//! ([`Width`]) and works on values only: no registers, no memory, no faults but the divide error.
//!
//! Laws:
//! - Flags are the six status flags in their RFLAGS positions ([`flags`]). A function returns all
//!   six; those its instruction leaves alone come from its `flags` argument. Callers replace
//!   [`flags::STATUS`] as a whole.
//! - Flags that the manual leaves undefined get the value that a processor of today produces;
//!   [`undefined`] lists them, so that comparisons can mask them.
//! - [`lazy::LazyFlags`] computes the same flags on demand; it agrees with the eager functions
//!   bit for bit.
#![forbid(unsafe_code)]

pub mod arith;
pub mod bcd;
pub mod bit;
pub mod bmi;
pub mod cond;
pub mod flags;
pub mod lazy;
pub mod logic;
pub mod muldiv;
pub mod rotate;
pub mod shift;
pub mod undefined;
mod width;

pub use cond::Condition;
pub use lazy::LazyFlags;
pub use muldiv::DivideError;
pub use width::Width;
