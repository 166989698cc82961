//! The operations, one file for each group.
//!
//! Each `call` decodes the index and is wide: it validates registers and pages, then uses objects,
//! whose contracts are narrow. IDs are in bits 15:0 of a register, 63:16 are ignored.

pub mod debug;
pub mod dirty_log;
pub mod handle;
pub mod id;
pub mod ids;
mod msr_rules;
mod pages;
pub mod pp;
mod quirks;
mod stats;
pub mod vm;
pub mod vp;
pub mod vs;
