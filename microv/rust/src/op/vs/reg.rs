//! reg_get, reg_set and their lists. A list is written whole or not at all.

use cpu_engine::Vcpu;

use crate::abi::list::mv_rdl_entry_t;
use crate::call::Call;
use crate::outcome::{Failure, OpResult, Outcome};
use crate::rdl;
use crate::reg::register;

/// R12 is the register (mv_reg_t), R10 becomes its value.
pub fn get(call: &Call) -> OpResult {
    super::value(call, |state| {
        let reg = register(call.regs.r12).ok_or(Failure::Unknown)?;
        Ok(state.vcpu.reg(reg))
    })
}

/// R12 is the register, R13 its new value.
pub fn set(call: &Call) -> OpResult {
    super::done(call, |state| {
        let reg = register(call.regs.r12).ok_or(Failure::Unknown)?;
        state.vcpu.set_reg(reg, call.regs.r13).map_err(|_| Failure::Unknown)
    })
}

/// Fills the value of every entry.
pub fn get_list(call: &Call) -> OpResult {
    super::with(call, |state| {
        let page = call.pp.page()?;
        let mut list = rdl::read(page)?;
        for entry in rdl::entries(&mut list) {
            let reg = register(entry.reg).ok_or(Failure::Unknown)?;
            entry.val = state.vcpu.reg(reg);
        }
        page.write(0, &list);
        Ok(Outcome::Done)
    })
}

/// Writes every entry, in order; after a refusal all registers are as before.
pub fn set_list(call: &Call) -> OpResult {
    super::done(call, |state| {
        let mut list = rdl::read(call.pp.page()?)?;
        write_all(&mut state.vcpu, rdl::entries(&mut list))
    })
}

/// Writes every entry, in order, or none.
///
/// # Errors
/// [`Failure::Unknown`] where an entry names no register or holds a value it cannot have.
pub fn write_all(vcpu: &mut Vcpu, entries: &[mv_rdl_entry_t]) -> Result<(), Failure> {
    let mut before = Vec::with_capacity(entries.len());
    for entry in entries {
        let written = register(entry.reg).and_then(|reg| {
            let old = vcpu.reg(reg);
            vcpu.set_reg(reg, entry.val).ok().map(|()| (reg, old))
        });
        match written {
            Some(old) => before.push(old),
            None => {
                for (reg, old) in before.into_iter().rev() {
                    // A value the register had is one that it can have.
                    let _ = vcpu.set_reg(reg, old);
                }
                return Err(Failure::Unknown);
            }
        }
    }
    Ok(())
}
