//! mv_id_op: which specification this is, and what of it can be had.

use crate::abi::hypercall::MV_ALL_SPECS_SUPPORTED_VAL;
use crate::abi::index;
use crate::call::Call;
use crate::outcome::{Failure, OpResult, Outcome};

/// Carries out operation `index` of the group. No capability is defined, so none is there to have.
pub fn call(_call: &mut Call, index: u64) -> OpResult {
    match index {
        index::MV_ID_OP_VERSION_IDX_VAL => Ok(Outcome::Value(MV_ALL_SPECS_SUPPORTED_VAL)),
        _ => Err(Failure::Unsupported),
    }
}
