//! mv_handle_op: handles from and back.

use crate::abi::hypercall::MV_SPEC_ID1_VAL;
use crate::abi::index;
use crate::call::Call;
use crate::outcome::{Failure, OpResult, Outcome};

/// Carries out operation `index` of the group.
pub fn call(call: &mut Call, index: u64) -> OpResult {
    match index {
        index::MV_HANDLE_OP_OPEN_HANDLE_IDX_VAL => open_handle(call),
        index::MV_HANDLE_OP_CLOSE_HANDLE_IDX_VAL => close_handle(call),
        _ => Err(Failure::Unsupported),
    }
}

/// R10[31:0] is the specification the caller speaks.
fn open_handle(call: &Call) -> OpResult {
    if u64::from(call.regs.r10 as u32) != MV_SPEC_ID1_VAL {
        return Err(Failure::Reg0);
    }
    call.machine.handles.open().map(Outcome::Value).ok_or(Failure::Unknown)
}

fn close_handle(call: &Call) -> OpResult {
    match call.machine.handles.close(call.regs.r10) {
        true => Ok(Outcome::Done),
        false => Err(Failure::InvalidHandle),
    }
}
