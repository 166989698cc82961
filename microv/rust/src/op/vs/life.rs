//! Creation and destruction of VSs, and whose they are.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::abi::id::MV_ROOT_VMID;
use crate::call::Call;
use crate::object::Vs;
use crate::object::vs::Refusal;
use crate::op::ids::{self, Asked};
use crate::outcome::{Failure, OpResult, Outcome};

/// R11 is the guest VP that gets the VS. Its TSC frequency is that of this PP, or the host's
/// where tsc_set_khz was never called on it: PPs are threads, which come and go. Further VSs of a VM
/// share the counter of its first.
pub fn create_vs(call: &Call) -> OpResult {
    let vp = ids::vp(call)?;
    if !vp.members.join() {
        return Err(Failure::Reg1);
    }
    let tsc_khz = call.pp.tsc_khz.map_or_else(cpu_engine::host_tsc_khz, NonZeroU32::get);
    let personality = call.machine.personality.get();
    match call.machine.vss.create(|id| Vs::new(id, Arc::clone(&vp), tsc_khz, personality)) {
        Some(vs) => Ok(Outcome::Value(vs.id().into())),
        None => {
            vp.members.leave();
            Err(Failure::Unknown)
        }
    }
}

/// Refused for root VSs and while the VS runs.
pub fn destroy_vs(call: &Call) -> OpResult {
    if ids::is_root_pp_id(call) {
        return Err(Failure::Unknown);
    }
    let vs = ids::vs(call)?;
    match vs.destroy() {
        Ok(()) => {
            call.machine.vss.remove(vs.id());
            Ok(Outcome::Done)
        }
        Err(Refusal::Running) => Err(Failure::Unknown),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The VM of the VS in R11, SELF and root VSs included.
pub fn vmid(call: &Call) -> OpResult {
    Ok(Outcome::Value(match ids::any_vs(call)? {
        Asked::Root(_) => MV_ROOT_VMID,
        Asked::Guest(vs) => vs.vp.vm.id().into(),
    }))
}

/// The VP of the VS in R11, SELF and root VSs included.
pub fn vpid(call: &Call) -> OpResult {
    Ok(Outcome::Value(match ids::any_vs(call)? {
        Asked::Root(id) => id.into(),
        Asked::Guest(vs) => vs.vp.id().into(),
    }))
}
