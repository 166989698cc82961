//! mv_debug_op: words for the log.

use crate::abi::index;
use crate::call::Call;
use crate::outcome::{Failure, OpResult, Outcome};

/// Carries out operation `index` of the group.
pub fn call(call: &mut Call, index: u64) -> OpResult {
    match index {
        index::MV_DEBUG_OP_OUT_IDX_VAL => {
            eprintln!("mv_debug_op_out: {:#018x} {:#018x}", call.regs.r10, call.regs.r11);
            Ok(Outcome::Done)
        }
        _ => Err(Failure::Unsupported),
    }
}
