//! The hypercall layer: MicroV's `mv_*` hypercalls (MicroV Hypercall Specification "Mv#1") answered in
//! software, for guests that the `cpu-engine` crate executes.
//!
//! The root VM is the process this is loaded into and its root-physical addresses are addresses of the
//! process; a PP is a thread of it. Callers need registers and one shared page per thread, nothing else.
//!
//! Unsafe code is in three modules, for memory that is named by a number: `ffi` (the caller's
//! registers), `page` (its shared page) and `slots` (its memory, given to a guest).

pub mod abi;
mod alarm;
pub mod arrival;
mod beside;
mod call;
mod cdl;
mod clock;
mod dispatch;
mod exit;
pub mod ffi;
mod handles;
mod host_memory;
mod hyperv;
mod irqchip;
mod mdl;
mod mp_state;
mod object;
mod op;
mod outcome;
mod page;
mod paravirt;
mod processor;
mod rdl;
mod reg;
#[cfg(test)]
mod root;
mod run;
mod run_delay;
mod runs;
mod schedstat;
mod slots;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

pub use call::Regs;

use object::{Machine, Pp};
use outcome::Failure;

/// The objects of this process.
static MACHINE: LazyLock<Arc<Machine>> = LazyLock::new(Arc::default);

thread_local! {
    /// The calling thread as PP; `None` until its first hypercall.
    static PP: RefCell<Option<Pp>> = const { RefCell::new(None) };
}

/// Makes the hypercall in `regs`; `rax` (and `r10`) hold the answer on return.
///
/// The contract is wide: whatever the registers and the shared page hold, there is a status. A panic
/// below is a bug: it is answered with MV_STATUS_FAILURE_UNKNOWN, and the VS it happened in can only be
/// destroyed from then on.
pub fn hypercall(regs: &mut Regs) {
    let answered = catch_unwind(AssertUnwindSafe(|| with_pp(|pp| dispatch::dispatch(pp, regs))));
    if !matches!(answered, Ok(Some(()))) {
        regs.rax = Failure::Unknown.status();
    }
}

/// `None` where the thread is no PP and cannot become one: too many threads are, or it is ending.
fn with_pp(f: impl FnOnce(&mut Pp)) -> Option<()> {
    let answered = PP.try_with(|pp| {
        let mut pp = pp.try_borrow_mut().ok()?;
        if pp.is_none() {
            *pp = Pp::new(Arc::clone(&MACHINE));
        }
        pp.as_mut().map(f)
    });
    answered.ok().flatten()
}
