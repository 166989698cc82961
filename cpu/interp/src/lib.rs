//! Interpreter for x86-64 instructions: real, protected, virtual-8086 and long mode.
//!
//! Bytes are decoded by `iced-x86` into blocks of [`op::Op`]s, each with the function that
//! executes it; blocks are cached by physical position. Follows the instruction reference (Intel
//! SDM volume 2) and the system programming chapters of volume 3.
//!
//! Laws: a faulting instruction changes nothing; a device access leaves at an instruction (or
//! string iteration) boundary; overwritten code is never executed from the cache.
//!
//! Vector and x87 instructions are executed by the host on the guest's registers, see `cpu-host`.
#![forbid(unsafe_code)]

mod access;
mod clock;
mod code_map;
mod control_bits;
mod cpu;
mod debug;
mod decode;
mod descriptor;
mod exec;
mod executed;
mod features;
pub mod int;
mod long_operand;
mod memory;
pub mod mmio;
pub mod mode;
mod msr_rules;
mod native;
pub mod op;
mod ports;
mod quirks;
mod run;
pub mod state;
mod stop;
mod wide;
mod withheld;
pub mod xstate;

pub use access::MANY_NOTED;
pub use clock::TscClock;
pub use cpu::{Cpu, Request};
pub use cpu_host::{FpuState, host_tsc, host_tsc_khz};
pub use debug::HostDebug;
pub use exec::{
    HostUse, HypercallAnswer, MsrRefusal, MsrStore, Origin, VectorClass, feature_msrs, saved_msrs,
};
pub use executed::Executed;
pub use features::{Features, Vendor};
pub use msr_rules::{MsrAnswer, MsrFilter, MsrRange, MsrReason, MsrRules, PlatformMsrs};
pub use quirks::Quirks;
pub use run::{Dropped, Fetched, Interp, Outcome};
pub use stop::{Done, Stop};
pub use withheld::{Withheld, user_stores};
