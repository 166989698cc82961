//! The C entry, `void mv_hypercall(mv_regs_t *regs)`.
#![allow(unsafe_code, reason = "the registers arrive as a pointer from C")]

use crate::call::Regs;

/// Makes the hypercall in `*regs`. A null pointer is answered with nothing.
///
/// # Safety
/// `regs` is null, or points to five `u64`s, aligned, that nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mv_hypercall(regs: *mut Regs) {
    // SAFETY: null is excluded by `as_mut`; the rest is the caller's promise above. `Regs` is repr(C)
    // with five u64s, for which every bit pattern is a value.
    if let Some(regs) = unsafe { regs.as_mut() } {
        crate::hypercall(regs);
    }
}
