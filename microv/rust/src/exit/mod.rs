//! From an exit of the engine to an exit reason in R10 and a structure on the page.

mod debug;
mod failure;
mod hypercall;
pub mod hyperv;
mod interrupt_end;
mod io;
mod memory_fault;
mod mmio;
mod msr;
mod tpr_access;
mod unknown;

use cpu_engine::Exit;

use crate::abi::run as abi;
use crate::abi::status::MV_STATUS_SUCCESS;
use crate::outcome::Outcome;
use crate::page::SharedPage;

pub use failure::{invalid_state, lost, poisoned};
pub use interrupt_end::report as interrupt_end;
pub use tpr_access::report as tpr_access;

/// Where the structure of an exit begins on the page, behind mv_run_return_t.
const OFFSET: usize = abi::MV_RUN_RETURN_EXIT_OFFSET as usize;

/// Puts the details of an exit on the page. Exits that are a reason and nothing else put none there.
pub fn report(page: &SharedPage, exit: &Exit) -> Outcome {
    match exit {
        Exit::Io(exit) => io::report(page, exit),
        Exit::Mmio(exit) => mmio::report(page, exit),
        Exit::Msr(exit) => msr::report(page, exit),
        Exit::Refused { gpa } => memory_fault::report(page, *gpa),
        Exit::Hypercall(exit) => hypercall::report(page, exit),
        Exit::Debug(exit) => debug::report(page, exit),
        Exit::EmulationFailure { bytes, len } => unknown::emulation(page, *bytes, *len),
        Exit::Noted => reason(abi::mv_exit_reason_t_noted),
        Exit::Hlt => reason(abi::mv_exit_reason_t_hlt),
        Exit::Shutdown => reason(abi::mv_exit_reason_t_shutdown),
        Exit::Lost => lost(page),
        // A pause is over before anybody reports.
        Exit::Interrupted | Exit::Arrived | Exit::Paused => reason(abi::mv_exit_reason_t_interrupt),
        Exit::InterruptWindow => reason(abi::mv_exit_reason_t_interrupt_window),
    }
}

fn reason(reason: u64) -> Outcome {
    Outcome::Exit { reason, status: MV_STATUS_SUCCESS }
}
