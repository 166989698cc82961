//! The local APIC of a VS whose VM has interrupt controllers.

use cpu_chipset::lapic::{IMAGE_LEN, register};

use crate::abi::irqchip::mv_lvt_t_cmci;
use crate::call::Call;
use crate::outcome::{Failure, OpResult, Outcome};

/// R12 is the APIC ID; the local APIC is as after power-up then.
pub fn set_apic_id(call: &Call) -> OpResult {
    super::done(call, |state| {
        let id = u32::try_from(call.regs.r12).map_err(|_| Failure::Reg2)?;
        if state.set_apic_id(id) { Ok(()) } else { Err(Failure::Unknown) }
    })
}

/// The registers go to the page, with the interrupts that have come.
pub fn get_all(call: &Call) -> OpResult {
    super::with(call, |state| {
        let image = state.lapic_image().ok_or(Failure::Unknown)?;
        call.pp.page()?.copy_out(0, &image);
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

/// R12 is mv_lvt_t. Nothing happens where the entry is masked or is not there.
pub fn raise(call: &Call) -> OpResult {
    super::done(call, |state| {
        if call.regs.r12 != mv_lvt_t_cmci {
            return Err(Failure::Reg2);
        }
        if state.raise_local(register::LVT_CMCI) { Ok(()) } else { Err(Failure::Unknown) }
    })
}
