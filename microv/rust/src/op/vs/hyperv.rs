//! hyperv_enforce, hyperv_cpuid_get_supported_list, hyperv_synic_activate, hyperv_flush_inhibit: the
//! interface of Hyper-V of a VS. R11 is the VS.

use crate::call::Call;
use crate::cdl;
use crate::hyperv;
use crate::hyperv::inhibition;
use crate::object::vs::Refusal;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

/// R12 is 0 or 1: whether the guest may use only what its CPUID announces.
pub fn enforce(call: &Call) -> OpResult {
    super::done(call, |state| {
        state.paravirt.hyperv.enforce_cpuid = match call.regs.r12 {
            0 => false,
            1 => true,
            _ => return Err(Failure::Reg2),
        };
        Ok(())
    })
}

/// The leaves that the guest can have.
pub fn supported_cpuid(call: &Call) -> OpResult {
    super::done(call, |state| {
        cdl::answer(call.pp.page()?, &hyperv::supported_cpuid(state.lapic.is_some()))
    })
}

/// R12 is 0 or 1: whether pages stay as they are. [`Failure::Unknown`] without a local APIC.
pub fn activate_synic(call: &Call) -> OpResult {
    super::done(call, |state| {
        let keeps_pages = match call.regs.r12 {
            0 => false,
            1 => true,
            _ => return Err(Failure::Reg2),
        };
        if state.lapic.is_none() {
            return Err(Failure::Unknown);
        }
        state.synic.activate(keeps_pages);
        Ok(())
    })
}

/// R12 is 0 or 1: whether hypercalls may not flush the VS.
pub fn inhibit_flushes(call: &Call) -> OpResult {
    let vs = ids::vs(call)?;
    let inhibited = match call.regs.r12 {
        0 => false,
        1 => true,
        _ => return Err(Failure::Reg2),
    };
    inhibition::set_inhibited(&vs.vp.vm, &vs.presence, inhibited);
    while inhibited && !vs.presence.has_forgotten() {
        std::thread::yield_now();
    }
    match vs.lock() {
        Ok(mut state) => state.vcpu.forget_if_asked(),
        Err(Refusal::Running) => {}
        Err(refusal) => return Err(refusal.into()),
    }
    Ok(Outcome::Done)
}
