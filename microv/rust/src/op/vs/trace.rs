//! trace_set and trace_read: what a VS does, as it does it. It never waits for who reads.

use cpu_engine::trace::{Kind, Record, Trace};
use cpu_engine::{Count, host_tsc, host_tsc_khz};
use zerocopy::FromZeros;

use crate::abi::run;
use crate::abi::trace as abi;
use crate::abi::trace::{mv_trace_record_t, mv_trace_t};
use crate::call::Call;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

// The engine numbers as the ABI does.
const _: () = {
    use cpu_engine::trace::{Event, TRACE_EVENTS, TRACE_EXITS, TRACE_INSTRUCTIONS};
    assert!(TRACE_EXITS as u64 == abi::MV_TRACE_EXITS);
    assert!(TRACE_EVENTS as u64 == abi::MV_TRACE_EVENTS);
    assert!(TRACE_INSTRUCTIONS as u64 == abi::MV_TRACE_INSTRUCTIONS);
    assert!(Kind::Exit as u64 == abi::MV_TRACE_KIND_EXIT);
    assert!(Kind::Answer as u64 == abi::MV_TRACE_KIND_ANSWER);
    assert!(Kind::Event as u64 == abi::MV_TRACE_KIND_EVENT);
    assert!(Kind::Instruction as u64 == abi::MV_TRACE_KIND_INSTRUCTION);
    assert!(Event::Interrupt as u64 == abi::MV_TRACE_EVENT_INTERRUPT);
    assert!(Event::Nmi as u64 == abi::MV_TRACE_EVENT_NMI);
    assert!(Event::Smi as u64 == abi::MV_TRACE_EVENT_SMI);
    assert!(Event::Exception as u64 == abi::MV_TRACE_EVENT_EXCEPTION);
    assert!(Event::SoftwareInterrupt as u64 == abi::MV_TRACE_EVENT_SOFTWARE_INTERRUPT);
    assert!(Event::Init as u64 == abi::MV_TRACE_EVENT_INIT);
    assert!(Event::StartUp as u64 == abi::MV_TRACE_EVENT_START_UP);
};

/// R12 is MV_TRACE_*, 0 for nothing. What is recorded stays.
pub fn set(call: &Call) -> OpResult {
    let vs = ids::vs(call)?;
    let wanted = call.regs.r12;
    if wanted & !abi::MV_TRACE_ALL != 0 {
        return Err(Failure::Reg2);
    }
    vs.trace.set(wanted as u32);
    // A VS that executes begins to step, or ends it.
    vs.presence.notify();
    Ok(Outcome::Done)
}

/// Puts mv_trace_t on the page: as many records from R12 on as there are and fit.
pub fn read(call: &Call) -> OpResult {
    let vs = ids::vs(call)?;
    let page = call.pp.page()?;
    page.write(0, &portion(&vs.trace, call.regs.r12));
    Ok(Outcome::Done)
}

fn portion(trace: &Trace, first: u64) -> mv_trace_t {
    let mut found = mv_trace_t::new_zeroed();
    found.tsc = host_tsc();
    found.tsc_khz = host_tsc_khz().into();
    let end = trace.next();
    let first = first.min(end);
    let mut number = first.max(trace.oldest());
    let mut places = found.records.iter_mut();
    let mut count = 0;
    while number < end {
        // What was overwritten meanwhile is lost, and so is all before it.
        if let Some(record) = trace.get(number) {
            let Some(place) = places.next() else { break };
            *place = layout(&record);
            count += 1;
        }
        number += 1;
    }
    found.next = number;
    found.num_records = count;
    found.lost = number - first - count;
    found
}

fn layout(record: &Record) -> mv_trace_record_t {
    let is_exit = record.kind == Kind::Exit as u8;
    mv_trace_record_t {
        number: record.number,
        tsc: record.tsc,
        rip: record.rip,
        kind: record.kind.into(),
        detail: if is_exit { reason(record.code) as u32 } else { record.code.into() },
        data: record.data,
    }
}

/// The exit reason of a [`Count`].
fn reason(count: u8) -> u64 {
    const REASONS: [(Count, u64); 12] = [
        (Count::Io, run::mv_exit_reason_t_io),
        (Count::Mmio, run::mv_exit_reason_t_mmio),
        (Count::Halt, run::mv_exit_reason_t_hlt),
        (Count::Interrupted, run::mv_exit_reason_t_interrupt),
        (Count::Window, run::mv_exit_reason_t_interrupt_window),
        (Count::Failed, run::mv_exit_reason_t_unknown),
        (Count::Msr, run::mv_exit_reason_t_msr),
        (Count::Hypercall, run::mv_exit_reason_t_hypercall),
        (Count::Debug, run::mv_exit_reason_t_debug),
        (Count::Refused, run::mv_exit_reason_t_memory_fault),
        (Count::Shutdown, run::mv_exit_reason_t_shutdown),
        (Count::Noted, run::mv_exit_reason_t_noted),
    ];
    let found = REASONS.into_iter().find(|(row, _)| *row as u8 == count);
    found.map_or(run::mv_exit_reason_t_failure, |(_, reason)| reason)
}
