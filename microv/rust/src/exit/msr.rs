//! mv_exit_msr_t: an MSR access that the rules of the VM give to the root.

use cpu_engine::{MsrExit, MsrReason};

use crate::abi::msr::{MV_MSR_LEAVE_DENIED, MV_MSR_LEAVE_INVALID, MV_MSR_LEAVE_UNKNOWN};
use crate::abi::run::{MV_EXIT_MSR_READ, MV_EXIT_MSR_WRITE, mv_exit_msr_t, mv_exit_reason_t_msr};
use crate::outcome::Outcome;
use crate::page::SharedPage;

/// Reports the access. The next run brings MV_EXIT_MSR_ANSWER_SIZE bytes.
pub fn report(page: &SharedPage, exit: &MsrExit) -> Outcome {
    let layout = mv_exit_msr_t {
        msr: exit.index.into(),
        flags: if exit.value.is_some() { MV_EXIT_MSR_WRITE } else { MV_EXIT_MSR_READ },
        data: exit.value.unwrap_or(0),
        reason: match exit.reason {
            MsrReason::Invalid => MV_MSR_LEAVE_INVALID,
            // Without the device there is no such MSR.
            MsrReason::Unknown | MsrReason::Platform => MV_MSR_LEAVE_UNKNOWN,
            MsrReason::Denied => MV_MSR_LEAVE_DENIED,
        },
    };
    page.write(super::OFFSET, &layout);
    super::reason(mv_exit_reason_t_msr)
}
