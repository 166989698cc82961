//! Whether the operating system lets the registers of an instruction be used.
//!
//! SDM volume 2, "Instruction Exception Specification"; volume 3, "System Programming for
//! Instruction Set Extensions": #UD comes before #NM.

use cpu_defs::{cr0, cr4};

use crate::cpu::Cpu;
use crate::stop::{Done, nm, ud};

/// XCR0.SSE and XCR0.AVX.
const AVX_STATE: u64 = 0b110;
/// In addition opmask, upper halves of ZMM0 to ZMM15, ZMM16 to ZMM31.
const AVX512_STATE: u64 = AVX_STATE | 0b1110_0000;

/// #UD or #NM if MMX registers cannot be used.
pub(in crate::exec) fn mmx(cpu: &Cpu) -> Done {
    if cpu.arch.cr0 & cr0::EM != 0 {
        return ud();
    }
    task_switched(cpu)
}

/// #UD or #NM if XMM registers cannot be used by legacy instructions.
pub(in crate::exec) fn sse(cpu: &Cpu) -> Done {
    if cpu.arch.cr0 & cr0::EM != 0 || cpu.arch.cr4 & cr4::OSFXSR == 0 {
        return ud();
    }
    task_switched(cpu)
}

/// #UD or #NM if VEX instructions cannot be used.
pub(in crate::exec) fn avx(cpu: &Cpu) -> Done {
    extended(cpu, AVX_STATE)
}

/// #UD or #NM if EVEX instructions and mask registers cannot be used.
pub(in crate::exec) fn avx512(cpu: &Cpu) -> Done {
    extended(cpu, AVX512_STATE)
}

fn extended(cpu: &Cpu, state: u64) -> Done {
    let enabled = cpu.arch.cr4 & cr4::OSXSAVE != 0 && cpu.arch.xcr0 & state == state;
    if !cpu.mode.has_descriptors() || !enabled {
        return ud();
    }
    task_switched(cpu)
}

/// #NM where the operating system wants to switch the registers.
pub(in crate::exec) fn task_switched(cpu: &Cpu) -> Done {
    if cpu.arch.cr0 & cr0::TS != 0 { nm() } else { Ok(()) }
}
