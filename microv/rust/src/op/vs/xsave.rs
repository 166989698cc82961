//! xsave_get_all, xsave_set_all: the XSAVE area in standard format, which fills the page.
//! SDM volume 1, "XSAVE Area"; components lie where the host's CPUID leaf 0DH has them.

use crate::abi::id::MV_PAGE_SIZE;
use crate::call::Call;
use crate::outcome::{Failure, OpResult};

const SIZE: usize = MV_PAGE_SIZE as usize;

/// Puts the area on the page, zeros behind it. Refused where it is longer than the page.
pub fn get_all(call: &Call) -> OpResult {
    super::done(call, |state| {
        let mut page = [0; SIZE];
        let area = state.vcpu.xsave();
        page.get_mut(..area.len()).ok_or(Failure::Unknown)?.copy_from_slice(&area);
        call.pp.page()?.copy_out(0, &page);
        Ok(())
    })
}

/// Takes the area from the page. Refused, and nothing changed, where XSTATE_BV names a component that
/// there is not, where it is in compacted format, or where MXCSR has reserved bits.
pub fn set_all(call: &Call) -> OpResult {
    super::done(call, |state| {
        let mut page = [0; SIZE];
        call.pp.page()?.copy_in(0, &mut page);
        state.vcpu.xrstor(&page).map_err(|_| Failure::Unknown)
    })
}
