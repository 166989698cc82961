//! mv_exit_tpr_access_t: the guest has accessed the task-priority register of its local APIC.

use crate::abi::run::{
    MV_EXIT_TPR_ACCESS_READ, MV_EXIT_TPR_ACCESS_WRITE, mv_exit_reason_t_tpr_access,
    mv_exit_tpr_access_t,
};
use crate::outcome::Outcome;
use crate::page::SharedPage;
use crate::paravirt::vapic::TprAccess;

/// Reports the access.
pub fn report(page: &SharedPage, access: TprAccess) -> Outcome {
    let TprAccess { rip, write } = access;
    let flags = if write { MV_EXIT_TPR_ACCESS_WRITE } else { MV_EXIT_TPR_ACCESS_READ };
    page.write(super::OFFSET, &mv_exit_tpr_access_t { rip, flags });
    super::reason(mv_exit_reason_t_tpr_access)
}
