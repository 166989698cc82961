//! The interrupt controllers and the timer of a PC, as pure state machines.
//!
//! Nothing here has a thread, a lock or a clock: callers bring the time in nanoseconds and carry
//! out what a method returns. Each file names its datasheet.
#![forbid(unsafe_code)]

mod ioapic;
pub mod lapic;
mod pic;
mod pit;

pub use ioapic::{Ioapic, IoapicMessage, PINS as IOAPIC_PINS, RedirectionEntry};
pub use pic::{Pic, PicPair, Raised};
pub use pit::{Channel, PIT_HZ, Pit};
