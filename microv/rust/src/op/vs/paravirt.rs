//! guest_stopped, paravirt_enforce, wait_with: the paravirtual interface of a VS. R11 is the VS.

use crate::call::Call;
use crate::outcome::{Failure, OpResult};

/// The guest's clock will say that the root had stopped the guest. Refused where the guest has none.
pub fn guest_stopped(call: &Call) -> OpResult {
    super::done(call, |state| {
        if !state.paravirt.has_clock() {
            return Err(Failure::Unknown);
        }
        state.paravirt.was_stopped = true;
        Ok(())
    })
}

/// R12 is 0 or 1: whether the guest may use only what its CPUID announces.
pub fn enforce(call: &Call) -> OpResult {
    super::done(call, |state| {
        state.paravirt.enforce_cpuid = match call.regs.r12 {
            0 => false,
            1 => true,
            _ => return Err(Failure::Reg2),
        };
        Ok(())
    })
}

/// R12 is a thread of the host, or 0: its waits for a CPU are part of the guest's steal time. One that
/// is gone waits for nothing.
pub fn wait_with(call: &Call) -> OpResult {
    super::done(call, |state| {
        state.paravirt.wait_with(u32::try_from(call.regs.r12).map_err(|_| Failure::Reg2)?);
        Ok(())
    })
}
