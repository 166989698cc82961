//! msr_get, msr_set and their lists.
//!
//! A list does not fail because of one MSR. get_list marks what does not exist with
//! MV_RDL_ENTRY_REFUSED; set_list stops at the first refusal, marks it, and leaves the number of
//! entries written in reg0.

use crate::abi::list::{MV_RDL_ENTRY_REFUSED, mv_rdl_entry_t};
use crate::call::Call;
use crate::object::state::State;
use crate::outcome::{Failure, OpResult, Outcome};
use crate::rdl;

/// R12[31:0] is the MSR, R10 becomes its value.
pub fn get(call: &Call) -> OpResult {
    super::value(call, |state| {
        let msr = u32::try_from(call.regs.r12).map_err(|_| Failure::Reg2)?;
        state.msr(msr).map_err(|_| Failure::Unknown)
    })
}

/// R12[31:0] is the MSR, R13 its new value.
pub fn set(call: &Call) -> OpResult {
    super::done(call, |state| {
        let msr = u32::try_from(call.regs.r12).map_err(|_| Failure::Reg2)?;
        state.set_msr(msr, call.regs.r13).map_err(|_| Failure::Unknown)
    })
}

/// Fills the value of every entry; 0 in those refused.
pub fn get_list(call: &Call) -> OpResult {
    super::with(call, |state| {
        let page = call.pp.page()?;
        let mut list = rdl::read(page)?;
        for entry in rdl::entries(&mut list) {
            match u32::try_from(entry.reg).ok().and_then(|msr| state.msr(msr).ok()) {
                Some(value) => entry.val = value,
                None => (entry.reg, entry.val) = (entry.reg | MV_RDL_ENTRY_REFUSED, 0),
            }
        }
        page.write(0, &list);
        Ok(Outcome::Done)
    })
}

/// Writes the entries in order up to the first refused one.
pub fn set_list(call: &Call) -> OpResult {
    super::with(call, |state| {
        let page = call.pp.page()?;
        let mut list = rdl::read(page)?;
        let entries = rdl::entries(&mut list);
        let refused = entries.iter().position(|entry| write(state, entry).is_err());
        if let Some(refused) = refused {
            entries[refused].reg |= MV_RDL_ENTRY_REFUSED;
        }
        list.reg[0] = refused.map_or(list.num_entries, |refused| refused as u64);
        page.write(0, &list);
        Ok(Outcome::Done)
    })
}

/// Writes one entry.
///
/// # Errors
/// [`Failure::Unknown`] where there is no such MSR, or it cannot have the value.
pub fn write(state: &mut State, entry: &mv_rdl_entry_t) -> Result<(), Failure> {
    let msr = u32::try_from(entry.reg).map_err(|_| Failure::Unknown)?;
    state.set_msr(msr, entry.val).map_err(|_| Failure::Unknown)
}
