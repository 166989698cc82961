//! The local APIC of a VS whose VM has interrupt controllers.

use cpu_chipset::lapic::IMAGE_LEN;

use crate::alarm::now_ns;
use crate::call::Call;
use crate::outcome::{Failure, OpResult, Outcome};

/// R12 is the APIC ID; the local APIC is as after power-up then.
pub fn set_apic_id(call: &Call) -> OpResult {
    super::done(call, |state| {
        let id = u32::try_from(call.regs.r12).map_err(|_| Failure::Reg2)?;
        if state.set_apic_id(id) { Ok(()) } else { Err(Failure::Unknown) }
    })
}

/// The registers go to the page.
pub fn get_all(call: &Call) -> OpResult {
    super::with(call, |state| {
        let local = state.lapic.as_ref().ok_or(Failure::Unknown)?;
        call.pp.page()?.copy_out(0, &local.lapic.image(now_ns()));
        Ok(Outcome::Done)
    })
}

/// The registers come from the page.
pub fn set_all(call: &Call) -> OpResult {
    super::with(call, |state| {
        let mut image = [0; IMAGE_LEN];
        call.pp.page()?.copy_in(0, &mut image);
        if state.restore_lapic(&image) { Ok(Outcome::Done) } else { Err(Failure::Unknown) }
    })
}
