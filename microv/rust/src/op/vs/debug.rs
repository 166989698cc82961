//! debug_set: mv_debug_t at the start of the page.

use cpu_engine::HostDebug;

use crate::abi::debug as abi;
use crate::abi::debug::mv_debug_t;
use crate::call::Call;
use crate::outcome::{Failure, OpResult};

/// Replaces what the root asked for before. Unknown flags are refused.
pub fn set(call: &Call) -> OpResult {
    super::done(call, |state| {
        let wanted: mv_debug_t = call.pp.page()?.read();
        let has = |flag: u64| wanted.flags & flag != 0;
        if wanted.flags & !abi::MV_DEBUG_ALL != 0 {
            return Err(Failure::Unknown);
        }
        state.vcpu.set_host_debug(HostDebug {
            step: has(abi::MV_DEBUG_STEP),
            points: has(abi::MV_DEBUG_POINTS).then_some((wanted.dr, wanted.dr7)),
            int3: has(abi::MV_DEBUG_INT3),
            block_interrupts: has(abi::MV_DEBUG_BLOCK_INTERRUPTS),
        });
        Ok(())
    })
}
