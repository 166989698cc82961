//! peek_list, lapic_peek_all and activity_get: what a VS is at and what its registers hold, whoever uses
//! it. The VS notices nothing but time.

use std::sync::atomic::Ordering;

use cpu_engine::Pending;

use crate::abi::activity as abi;
use crate::abi::activity::mv_activity_t;
use crate::abi::list::{MV_RDL_ENTRY_MSR, MV_RDL_ENTRY_REFUSED};
use crate::alarm::now_ns;
use crate::call::Call;
use crate::object::state::State;
use crate::object::vs::Refusal;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};
use crate::rdl;
use crate::reg::register;

/// Fills the value of every entry; what does not exist is marked and has 0.
pub fn list(call: &Call) -> OpResult {
    let vs = ids::vs(call)?;
    let page = call.pp.page()?;
    let mut list = rdl::read(page)?;
    let found = vs.look(move |state| {
        for entry in rdl::entries(&mut list) {
            match value(state, entry.reg) {
                Some(value) => entry.val = value,
                None => (entry.reg, entry.val) = (entry.reg | MV_RDL_ENTRY_REFUSED, 0),
            }
        }
        list
    })?;
    let Some(list) = found else { return Ok(Outcome::Retry) };
    page.write(0, &list);
    Ok(Outcome::Done)
}

fn value(state: &State, entry: u64) -> Option<u64> {
    if entry & MV_RDL_ENTRY_MSR == 0 {
        return register(entry).map(|reg| state.vcpu.reg(reg));
    }
    let msr = u32::try_from(entry & !MV_RDL_ENTRY_MSR).ok()?;
    state.msr(msr).ok()
}

/// The registers of the local APIC go to the page.
pub fn lapic(call: &Call) -> OpResult {
    let vs = ids::vs(call)?;
    let page = call.pp.page()?;
    let image = |state: &State| Some(state.lapic.as_ref()?.lapic.image(now_ns()));
    let Some(found) = vs.look(image)? else { return Ok(Outcome::Retry) };
    page.copy_out(0, &found.ok_or(Failure::Unknown)?);
    Ok(Outcome::Done)
}

/// Puts mv_activity_t on the page.
pub fn activity(call: &Call) -> OpResult {
    let vs = ids::vs(call)?;
    let page = call.pp.page()?;
    let last_exit = vs.last_exit.reason();
    let suspended = vs.presence.inhibition.suspended();
    let suspended_on = suspended.map_or(abi::MV_ACTIVITY_NOT_SUSPENDED, |wait| wait.on.into());
    let hypercall = suspended.map_or(0, |wait| wait.code.into());
    let found = match vs.lock() {
        Ok(state) => mv_activity_t {
            activity: abi::MV_ACTIVITY_ROOT,
            pending: pending(&state),
            last_exit,
            mp_state: state.activity().number(),
            suspended_on,
            hypercall,
        },
        Err(Refusal::Running) => mv_activity_t {
            activity: vs.presence.activity.load(Ordering::Relaxed).max(abi::MV_ACTIVITY_RUNNING),
            pending: abi::MV_PENDING_NONE,
            last_exit,
            mp_state: 0,
            suspended_on,
            hypercall,
        },
        Err(refusal) => return Err(refusal.into()),
    };
    page.write(0, &found);
    Ok(Outcome::Done)
}

fn pending(state: &State) -> u64 {
    match state.vcpu.pending() {
        None => abi::MV_PENDING_NONE,
        Some(Pending::IoIn { .. }) => abi::MV_PENDING_IO_IN,
        Some(Pending::IoOut) => abi::MV_PENDING_IO_OUT,
        Some(Pending::MmioRead { .. }) => abi::MV_PENDING_MMIO_READ,
        Some(Pending::MmioWrite) => abi::MV_PENDING_MMIO_WRITE,
        Some(Pending::Msr) => abi::MV_PENDING_MSR,
        Some(Pending::Hypercall) => abi::MV_PENDING_HYPERCALL,
    }
}
