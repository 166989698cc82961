//! Tier 1: 64-bit guest code copied to host code, block by block.
//!
//! Guest registers, status flags (`frame`) and the registers of vectors and x87 (`registers`) are
//! in the host's; an instruction is copied with its memory operand behind a look into the TLB
//! (`emit`), or tier 0 executes it ([`cpu_interp`], `callout`), which is also what happens where a
//! page is not in the TLB, or an access faults or goes to a device. Single steps, breakpoints and
//! interrupt shadows are left to tier 0 as a whole.
//!
//! Laws: translated code touches its frame, the registers' slots, and guest memory inside of a page
//! whose TLB entry allows it; no page is writable and executable through the same mapping; state at an
//! exit is that of an instruction boundary, status flags included.
//!
//! Not here: code of 16 and 32 bits.
#![deny(unsafe_code)]

mod again;
mod assemble;
mod block;
mod callout;
mod decode;
mod effects;
mod emit;
mod enter;
mod far_bit;
mod flags;
mod frame;
mod group;
mod instruction;
mod jump_cache;
mod kept_bytes;
mod kick;
mod limit;
mod links;
mod lockstep;
mod look;
mod member;
mod pages;
mod plan;
mod reading;
mod register_state;
mod registers;
mod repeat;
mod seen;
mod sites;
mod stack;
mod string;
mod system;
mod tails;
mod translator;
mod x87;

pub use limit::CodeLimit;
pub use lockstep::Lockstep;
pub use translator::{PATIENCE, Translator};
