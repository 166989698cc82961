//! x87, MMX, SSE, AVX and AVX-512: the registers, kept as the host's own CPU loads them.
//!
//! SDM volume 1, "x87 FPU Programming" to "Intel AVX-512"; the layout of the x87 part is that of
//! FXSAVE64 (volume 1, "FXSAVE Area").

mod state;

pub use state::{FCW, FOP, FPU_DP, FPU_IP, FSW, FTW, FpuState, LEGACY_LEN, MXCSR, MXCSR_MASK};
