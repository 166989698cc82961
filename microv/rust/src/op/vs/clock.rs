//! Time of a VS: its TSC frequency, and a settable nanosecond clock.

use crate::call::Call;
use crate::outcome::OpResult;

/// R10 becomes the frequency in kHz, fixed when the VS was created.
pub fn tsc_get_khz(call: &Call) -> OpResult {
    super::value(call, |state| Ok(state.tsc_khz.into()))
}

/// R10 becomes the clock in ns.
pub fn get(call: &Call) -> OpResult {
    super::value(call, |state| Ok(state.clock.get()))
}

/// R12 is the clock in ns, from now on.
pub fn set(call: &Call) -> OpResult {
    super::done(call, |state| {
        state.clock.set(call.regs.r12);
        Ok(())
    })
}
