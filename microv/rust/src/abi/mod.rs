//! The hypercall ABI: numbers and page layouts, each written once. No behaviour.
//!
//! Follows the MicroV Hypercall Specification "Mv#1"; where specification and headers disagree the
//! choice is noted beside the numbers. [`python`] prints the same as `abi_gen.py`.

pub mod activity;
pub mod clock;
pub mod debug;
pub mod define;
pub mod event;
pub mod hypercall;
pub mod id;
pub mod index;
pub mod irqchip;
pub mod list;
pub mod map;
pub mod mp_state;
pub mod msr;
pub mod probe;
mod python;
pub mod quirk;
pub mod reg;
pub mod run;
pub mod stats;
pub mod status;
pub mod trace;

use define::{Constant, Layout};

pub use python::python;

/// All constants: (subject, rows).
pub fn constants() -> [(&'static str, &'static [Constant]); 17] {
    [
        ("RAX on entry, specification IDs", hypercall::TABLE),
        ("Hypercall indexes", index::TABLE),
        ("mv_status_t", status::TABLE),
        ("IDs and limits", id::TABLE),
        ("mv_reg_t", reg::TABLE),
        ("Memory descriptor lists", map::TABLE),
        ("Register and CPUID descriptor lists", list::TABLE),
        ("mv_mp_state_t", mp_state::TABLE),
        ("run", run::TABLE),
        ("msr_leave_set, msr_filter_set", msr::TABLE),
        ("quirks_set", quirk::TABLE),
        ("debug_set", debug::TABLE),
        ("event_get_all, event_set_all", event::TABLE),
        ("Interrupt controllers", irqchip::TABLE),
        ("activity_get", activity::TABLE),
        ("probe", probe::TABLE),
        ("trace_set, trace_read", trace::TABLE),
    ]
}

/// All page structures; a structure comes after those it contains.
pub fn layouts() -> impl Iterator<Item = &'static Layout> {
    [
        map::LAYOUTS,
        list::LAYOUTS,
        run::LAYOUTS,
        event::LAYOUTS,
        clock::LAYOUTS,
        probe::LAYOUTS,
        stats::LAYOUTS,
        debug::LAYOUTS,
        msr::LAYOUTS,
        irqchip::LAYOUTS,
        activity::LAYOUTS,
        trace::LAYOUTS,
    ]
    .into_iter()
    .flatten()
}
