//! quirks_set: where the processors of a VM are not like bare ones.

use crate::abi::quirk::MV_QUIRK_ALL;
use crate::call::Call;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

/// R11 is the VM, R12 MV_QUIRK_*; all are set to begin with. A VS that runs leaves.
pub fn set(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    if call.regs.r12 & !MV_QUIRK_ALL != 0 {
        return Err(Failure::Reg2);
    }
    vm.set_quirks(call.regs.r12);
    Ok(Outcome::Done)
}
