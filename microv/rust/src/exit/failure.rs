//! mv_exit_failure_t: the VS was not entered.

use crate::abi::run::{
    MV_EXIT_FAILURE_INVALID_STATE, MV_EXIT_FAILURE_LOST, MV_EXIT_FAILURE_POISONED,
    mv_exit_failure_t, mv_exit_reason_t_failure,
};
use crate::abi::status::MV_STATUS_EXIT_FAILURE;
use crate::outcome::Outcome;
use crate::page::SharedPage;

/// The state of the VS breaks a consistency rule of the processor.
pub fn invalid_state(page: &SharedPage) -> Outcome {
    report(page, MV_EXIT_FAILURE_INVALID_STATE)
}

/// A VS of the VM has lost its state.
pub fn lost(page: &SharedPage) -> Outcome {
    report(page, MV_EXIT_FAILURE_LOST)
}

/// An earlier call broke the VS.
pub fn poisoned(page: &SharedPage) -> Outcome {
    report(page, MV_EXIT_FAILURE_POISONED)
}

fn report(page: &SharedPage, reason: u64) -> Outcome {
    page.write(super::OFFSET, &mv_exit_failure_t { reason });
    Outcome::Exit { reason: mv_exit_reason_t_failure, status: MV_STATUS_EXIT_FAILURE }
}
