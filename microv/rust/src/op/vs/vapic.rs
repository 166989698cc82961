//! vapic_set, tpr_report_set: the task priority of a guest that the root patches. R11 is the VS.

use crate::call::Call;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

/// R12 is where the guest has its task priority, or 0. [`Failure::Unknown`] without a local APIC,
/// [`Failure::Reg2`] where there are no four bytes that can be written.
pub fn set(call: &Call) -> OpResult {
    let vs = ids::vs(call)?;
    let mut state = vs.lock()?;
    if state.lapic.is_none() {
        return Err(Failure::Unknown);
    }
    match state.vapic.place(&vs.vp.vm.memory.normal, call.regs.r12) {
        true => Ok(Outcome::Done),
        false => Err(Failure::Reg2),
    }
}

/// R12 is 0 or 1: whether the VS leaves when it has accessed the register.
pub fn set_report(call: &Call) -> OpResult {
    super::done(call, |state| {
        state.vapic.set_tells(match call.regs.r12 {
            0 => false,
            1 => true,
            _ => return Err(Failure::Reg2),
        });
        Ok(())
    })
}
