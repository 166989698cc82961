//! mv_vs_op: virtual-processor states. R11 names the VS in every call but create_vs and vsid.

mod clock;
mod cpuid;
mod debug;
mod event;
mod events;
mod fpu;
mod hyperv;
mod lapic;
mod life;
pub mod msr;
mod paravirt;
mod peek;
pub mod reg;
mod trace;
mod translate;
mod vapic;
mod xsave;

use crate::abi::index as idx;
use crate::call::Call;
use crate::object::state::State;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

/// Carries out operation `index` of the group.
pub fn call(call: &mut Call, index: u64) -> OpResult {
    match index {
        idx::MV_VS_OP_CREATE_VS_IDX_VAL => life::create_vs(call),
        idx::MV_VS_OP_DESTROY_VS_IDX_VAL => life::destroy_vs(call),
        idx::MV_VS_OP_VMID_IDX_VAL => life::vmid(call),
        idx::MV_VS_OP_VPID_IDX_VAL => life::vpid(call),
        idx::MV_VS_OP_VSID_IDX_VAL => Ok(Outcome::Value(call.pp.id().into())),
        idx::MV_VS_OP_GLA_TO_GPA_IDX_VAL => translate::gla_to_gpa(call),
        idx::MV_VS_OP_PROBE_IDX_VAL => translate::probe(call),
        idx::MV_VS_OP_RUN_IDX_VAL => crate::run::run(call),
        idx::MV_VS_OP_KICK_IDX_VAL => event::kick(call),
        idx::MV_VS_OP_PEEK_LIST_IDX_VAL => peek::list(call),
        idx::MV_VS_OP_ACTIVITY_GET_IDX_VAL => peek::activity(call),
        idx::MV_VS_OP_LAPIC_PEEK_ALL_IDX_VAL => peek::lapic(call),
        idx::MV_VS_OP_TRACE_SET_IDX_VAL => trace::set(call),
        idx::MV_VS_OP_TRACE_READ_IDX_VAL => trace::read(call),
        idx::MV_VS_OP_QUEUED_INTERRUPT_IDX_VAL => event::queued_interrupt(call),
        idx::MV_VS_OP_APIC_ID_SET_IDX_VAL => lapic::set_apic_id(call),
        idx::MV_VS_OP_LAPIC_GET_ALL_IDX_VAL => lapic::get_all(call),
        idx::MV_VS_OP_LAPIC_SET_ALL_IDX_VAL => lapic::set_all(call),
        idx::MV_VS_OP_CPUID_GET_IDX_VAL => cpuid::get(call),
        idx::MV_VS_OP_CPUID_SET_IDX_VAL => cpuid::set(call),
        idx::MV_VS_OP_CPUID_GET_LIST_IDX_VAL => cpuid::get_list(call),
        idx::MV_VS_OP_CPUID_SET_LIST_IDX_VAL => cpuid::set_list(call),
        idx::MV_VS_OP_REG_GET_IDX_VAL => reg::get(call),
        idx::MV_VS_OP_REG_SET_IDX_VAL => reg::set(call),
        idx::MV_VS_OP_REG_GET_LIST_IDX_VAL => reg::get_list(call),
        idx::MV_VS_OP_REG_SET_LIST_IDX_VAL => reg::set_list(call),
        idx::MV_VS_OP_MSR_GET_IDX_VAL => msr::get(call),
        idx::MV_VS_OP_MSR_SET_IDX_VAL => msr::set(call),
        idx::MV_VS_OP_MSR_GET_LIST_IDX_VAL => msr::get_list(call),
        idx::MV_VS_OP_MSR_SET_LIST_IDX_VAL => msr::set_list(call),
        idx::MV_VS_OP_FPU_GET_ALL_IDX_VAL => fpu::get_all(call),
        idx::MV_VS_OP_FPU_SET_ALL_IDX_VAL => fpu::set_all(call),
        idx::MV_VS_OP_XSAVE_GET_ALL_IDX_VAL => xsave::get_all(call),
        idx::MV_VS_OP_XSAVE_SET_ALL_IDX_VAL => xsave::set_all(call),
        idx::MV_VS_OP_MP_STATE_GET_IDX_VAL => event::mp_state_get(call),
        idx::MV_VS_OP_MP_STATE_SET_IDX_VAL => event::mp_state_set(call),
        idx::MV_VS_OP_INJECT_EXCEPTION_IDX_VAL => event::inject_exception(call),
        idx::MV_VS_OP_QUEUE_INTERRUPT_IDX_VAL => event::queue_interrupt(call),
        idx::MV_VS_OP_INJECT_SMI_IDX_VAL => event::inject_smi(call),
        idx::MV_VS_OP_LVT_RAISE_IDX_VAL => lapic::raise(call),
        idx::MV_VS_OP_EVENT_GET_ALL_IDX_VAL => events::get_all(call),
        idx::MV_VS_OP_EVENT_SET_ALL_IDX_VAL => events::set_all(call),
        idx::MV_VS_OP_DEBUG_SET_IDX_VAL => debug::set(call),
        idx::MV_VS_OP_TSC_GET_KHZ_IDX_VAL => clock::tsc_get_khz(call),
        idx::MV_VS_OP_TSC_SET_KHZ_IDX_VAL => clock::tsc_set_khz(call),
        idx::MV_VS_OP_DIRTY_LOG_TAKE_IDX_VAL => crate::op::dirty_log::take(call),
        idx::MV_VS_OP_STATS_GET_IDX_VAL => crate::op::stats::of_vs(call),
        idx::MV_VS_OP_TSC_GET_OFFSET_IDX_VAL => clock::tsc_get_offset(call),
        idx::MV_VS_OP_TSC_SET_OFFSET_IDX_VAL => clock::tsc_set_offset(call),
        idx::MV_VS_OP_CLOCK_GET_IDX_VAL => clock::get(call),
        idx::MV_VS_OP_CLOCK_SET_IDX_VAL => clock::set(call),
        idx::MV_VS_OP_GUEST_STOPPED_IDX_VAL => paravirt::guest_stopped(call),
        idx::MV_VS_OP_WAIT_WITH_IDX_VAL => paravirt::wait_with(call),
        idx::MV_VS_OP_PARAVIRT_ENFORCE_IDX_VAL => paravirt::enforce(call),
        idx::MV_VS_OP_VAPIC_SET_IDX_VAL => vapic::set(call),
        idx::MV_VS_OP_TPR_REPORT_SET_IDX_VAL => vapic::set_report(call),
        idx::MV_VS_OP_HYPERV_ENFORCE_IDX_VAL => hyperv::enforce(call),
        idx::MV_VS_OP_HYPERV_CPUID_GET_SUPPORTED_LIST_IDX_VAL => hyperv::supported_cpuid(call),
        idx::MV_VS_OP_HYPERV_SYNIC_ACTIVATE_IDX_VAL => hyperv::activate_synic(call),
        idx::MV_VS_OP_HYPERV_FLUSH_INHIBIT_IDX_VAL => hyperv::inhibit_flushes(call),
        _ => Err(Failure::Unsupported),
    }
}

/// Lets `f` use the state of the VS in R11.
///
/// # Errors
/// [`Failure::Reg1`] where R11 names no guest VS, or one that runs on another PP;
/// [`Failure::Unknown`] where the VS is poisoned; what `f` returns.
fn with<R>(call: &Call, f: impl FnOnce(&mut State) -> Result<R, Failure>) -> Result<R, Failure> {
    let vs = ids::vs(call)?;
    let mut state = vs.lock()?;
    f(&mut state)
}

/// As [`with`], for calls that answer with a value in R10.
fn value(call: &Call, f: impl FnOnce(&State) -> Result<u64, Failure>) -> OpResult {
    with(call, |state| f(state)).map(Outcome::Value)
}

/// As [`with`], for calls that answer with a status only.
fn done(call: &Call, f: impl FnOnce(&mut State) -> Result<(), Failure>) -> OpResult {
    with(call, f).map(|()| Outcome::Done)
}
