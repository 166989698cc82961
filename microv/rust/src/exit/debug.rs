//! mv_exit_debug_t: a step or breakpoint of debug_set.

use cpu_engine::DebugExit;

use crate::abi::run::{mv_exit_debug_t, mv_exit_reason_t_debug};
use crate::outcome::Outcome;
use crate::page::SharedPage;

/// Reports where the guest is, and why.
pub fn report(page: &SharedPage, exit: &DebugExit) -> Outcome {
    let DebugExit { vector, linear_rip, dr6, dr7 } = *exit;
    let layout = mv_exit_debug_t { vector: vector.into(), rip: linear_rip, dr6, dr7 };
    page.write(super::OFFSET, &layout);
    super::reason(mv_exit_reason_t_debug)
}
