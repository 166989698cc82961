//! mv_exit_memory_fault_t: the guest accesses memory that is refused.

use crate::abi::run::{mv_exit_memory_fault_t, mv_exit_reason_t_memory_fault};
use crate::outcome::Outcome;
use crate::page::SharedPage;

/// Reports the access, which is made again by the next run.
pub fn report(page: &SharedPage, gpa: u64) -> Outcome {
    page.write(super::OFFSET, &mv_exit_memory_fault_t { gpa });
    super::reason(mv_exit_reason_t_memory_fault)
}
