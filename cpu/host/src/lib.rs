//! x87, MMX, SSE, AVX and AVX-512: the registers, kept as the host's own CPU loads them, and the
//! host's own CPU to execute the instructions on them.
//!
//! SDM volume 1, "x87 FPU Programming" to "Intel AVX-512"; the layout of the x87 part is that of
//! FXSAVE64 (volume 1, "FXSAVE Area").
//!
//! Laws: what the host executes is an instruction that was encoded here, decoded again and found
//! to use nothing but vector, mask and x87 registers, four general registers and the operand
//! buffer of its [`Exchange`]; no page is writable and executable through the same mapping; after
//! a snippet the host's x87, MXCSR and direction flag are as Rust left them.
//!
//! Not here: guest memory, availability (CR0, CR4, XCR0), which instructions the guest may have.
#![deny(unsafe_code)]

mod arena;
mod code_memory;
mod emit;
mod features;
mod mmx;
mod random;
mod rewrite;
mod sigfpe;
mod snippets;
mod state;
mod tsc;
mod x87;

pub use code_memory::CodeMemory;
pub use features::host_has;
pub use random::{random_number, random_seed};
pub use rewrite::{GprUse, MemoryUse, Refusal, is_executable};
pub use sigfpe::install_sigfpe_guard;
pub use snippets::{Exchange, MEMORY_LEN, Outcome, Snippet, Snippets};
pub use state::{
    FCW, FOP, FPU_DP, FPU_IP, FSW, FTW, FpuState, LEGACY_LEN, MXCSR, MXCSR_INIT, MXCSR_LEGAL,
    MXCSR_MASK, XMM0,
};
pub use tsc::{host_tsc, host_tsc_khz, host_tsc_ordered, is_near};
pub use x87::{PointerForm, X87_LEN, X87Pointers};
