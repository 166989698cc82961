//! mv_exit_hypercall_t: a call of the guest to its host.

use cpu_engine::HypercallExit;

use crate::abi::run::{MV_EXIT_HYPERCALL_LONG, mv_exit_hypercall_t, mv_exit_reason_t_hypercall};
use crate::outcome::Outcome;
use crate::page::SharedPage;

/// Reports the call. The next run brings MV_EXIT_HYPERCALL_ANSWER_SIZE bytes.
pub fn report(page: &SharedPage, exit: &HypercallExit) -> Outcome {
    let layout = mv_exit_hypercall_t {
        args: exit.args,
        flags: if exit.long { MV_EXIT_HYPERCALL_LONG } else { 0 },
        cpl: exit.cpl.into(),
    };
    page.write(super::OFFSET, &layout);
    super::reason(mv_exit_reason_t_hypercall)
}
