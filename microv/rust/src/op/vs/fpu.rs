//! fpu_get_all, fpu_set_all: the 512-byte FXSAVE image at the start of the page.
//! SDM volume 1, "FXSAVE Area"; 64-bit format.

use crate::call::Call;
use crate::outcome::OpResult;

/// Puts the image on the page.
pub fn get_all(call: &Call) -> OpResult {
    super::done(call, |state| {
        call.pp.page()?.copy_out(0, &state.vcpu.fxsave());
        Ok(())
    })
}

/// Takes the image from the page.
pub fn set_all(call: &Call) -> OpResult {
    super::done(call, |state| {
        let mut image = [0; 512];
        call.pp.page()?.copy_in(0, &mut image);
        state.vcpu.fxrstor(&image);
        Ok(())
    })
}
