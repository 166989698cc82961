//! mv_vp_op: virtual processors.

use std::sync::Arc;

use crate::abi::id::MV_ROOT_VMID;
use crate::abi::index;
use crate::call::Call;
use crate::object::Vp;
use crate::op::ids::{self, Asked};
use crate::outcome::{Failure, OpResult, Outcome};

/// Carries out operation `index` of the group.
pub fn call(call: &mut Call, index: u64) -> OpResult {
    match index {
        index::MV_VP_OP_CREATE_VP_IDX_VAL => create_vp(call),
        index::MV_VP_OP_DESTROY_VP_IDX_VAL => destroy_vp(call),
        index::MV_VP_OP_VMID_IDX_VAL => vmid(call),
        index::MV_VP_OP_VPID_IDX_VAL => Ok(Outcome::Value(call.pp.id().into())),
        _ => Err(Failure::Unsupported),
    }
}

/// R11 is the guest VM that gets the VP.
fn create_vp(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    if !vm.members.join() {
        return Err(Failure::Reg1);
    }
    match call.machine.vps.create(|id| Vp::new(id, Arc::clone(&vm))) {
        Some(vp) => Ok(Outcome::Value(vp.id().into())),
        None => {
            vm.members.leave();
            Err(Failure::Unknown)
        }
    }
}

/// Refused for root VPs and while a VS stands on the VP.
fn destroy_vp(call: &Call) -> OpResult {
    if ids::is_root_pp_id(call) {
        return Err(Failure::Unknown);
    }
    let vp = ids::vp(call)?;
    vp.members.retire()?;
    call.machine.vps.remove(vp.id());
    vp.vm.members.leave();
    Ok(Outcome::Done)
}

fn vmid(call: &Call) -> OpResult {
    Ok(Outcome::Value(match ids::any_vp(call)? {
        Asked::Root(_) => MV_ROOT_VMID,
        Asked::Guest(vp) => vp.vm.id().into(),
    }))
}
