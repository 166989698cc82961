//! Time of a VS: its TSC frequency and offset, and a settable nanosecond clock.

use crate::call::Call;
use crate::outcome::{Failure, OpResult};

/// R10 becomes the frequency in kHz.
pub fn tsc_get_khz(call: &Call) -> OpResult {
    super::value(call, |state| Ok(state.tsc_khz.into()))
}

/// R12 is the frequency in kHz from now on; 0 and what 32 bits cannot hold are refused.
pub fn tsc_set_khz(call: &Call) -> OpResult {
    super::done(call, |state| {
        let khz = u32::try_from(call.regs.r12).ok().filter(|khz| *khz != 0);
        let khz = khz.ok_or(Failure::Reg2)?;
        state.set_tsc_khz(khz);
        Ok(())
    })
}

/// R10 becomes what the counter is ahead of the host's, once that is scaled, mod 2^64.
pub fn tsc_get_offset(call: &Call) -> OpResult {
    super::value(call, |state| Ok(state.vcpu.tsc_offset()))
}

/// R12 is that offset from now on.
pub fn tsc_set_offset(call: &Call) -> OpResult {
    super::done(call, |state| {
        state.set_tsc_offset(call.regs.r12);
        Ok(())
    })
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
