//! event_get_all, event_set_all: mv_event_t at the start of the page.
//!
//! Debug traps that wait are shown as a pending #DB, and taken so while a load of SS holds them back.

use cpu_defs::{Exception, vector};
use cpu_engine::{Events, QueuedException, Shadow, Stage, Vcpu};

use crate::abi::event as abi;
use crate::abi::event::mv_event_t;
use crate::call::Call;
use crate::outcome::{Failure, OpResult};

const LAST_EXCEPTION: u32 = 31;

/// Puts what waits on the page.
pub fn get_all(call: &Call) -> OpResult {
    super::done(call, |state| {
        let page = call.pp.page()?;
        state.take_interrupts();
        let mut events = to_page(&state.vcpu);
        if state.has_init() {
            events.flags |= abi::MV_EVENT_INIT;
        }
        page.write(0, &events);
        Ok(())
    })
}

/// Replaces what waits by what is on the page. Refused, and nothing changed, where a flag is unknown
/// or a vector out of range.
pub fn set_all(call: &Call) -> OpResult {
    super::done(call, |state| {
        let page: mv_event_t = call.pp.page()?.read();
        let (events, interrupt) = from_page(&page).ok_or(Failure::Unknown)?;
        state.take_interrupts();
        state.set_init(page.flags & abi::MV_EVENT_INIT != 0);
        state.vcpu.set_events(&events);
        state.vcpu.set_queued_interrupt(interrupt);
        Ok(())
    })
}

fn to_page(vcpu: &Vcpu) -> mv_event_t {
    let events = vcpu.events();
    let traps = (events.debug_traps != 0).then(|| QueuedException {
        exception: Exception::debug(events.debug_traps),
        stage: Stage::Pending,
    });
    let queued = events.exception.or(traps);
    let exception = queued.map_or(Exception::plain(0), |queued| queued.exception);
    let waiting = vcpu.queued_interrupt();
    let interrupt = events.interrupt.map(|injected| injected.vector).or(waiting);
    let injected = queued.is_some_and(|queued| queued.stage == Stage::Injected);
    let flags = [
        (queued.is_some(), abi::MV_EVENT_EXCEPTION),
        (injected, abi::MV_EVENT_EXCEPTION_INJECTED),
        (exception.error_code.is_some(), abi::MV_EVENT_EXCEPTION_HAS_ERROR_CODE),
        (exception.payload.is_some(), abi::MV_EVENT_EXCEPTION_HAS_PAYLOAD),
        (waiting.is_some(), abi::MV_EVENT_INTERRUPT),
        (events.interrupt.is_some(), abi::MV_EVENT_INTERRUPT_INJECTED),
        (events.nmi_pending, abi::MV_EVENT_NMI),
        (events.nmi_injected, abi::MV_EVENT_NMI_INJECTED),
        (events.nmi_blocked, abi::MV_EVENT_NMI_BLOCKED),
        (events.shadow == Shadow::Sti, abi::MV_EVENT_SHADOW_STI),
        (events.shadow == Shadow::MovSs, abi::MV_EVENT_SHADOW_MOV_SS),
        (events.triple_fault, abi::MV_EVENT_TRIPLE_FAULT),
        (events.smi_pending, abi::MV_EVENT_SMI),
        (events.smm, abi::MV_EVENT_SMM),
        (events.smm_inside_nmi, abi::MV_EVENT_SMM_INSIDE_NMI),
    ];
    mv_event_t {
        flags: flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum(),
        exception_vector: exception.vector.into(),
        exception_error_code: exception.error_code.unwrap_or(0),
        exception_payload: exception.payload.unwrap_or(0),
        interrupt_vector: interrupt.unwrap_or(0).into(),
        reserved: 0,
    }
}

/// The events, and the interrupt that waits.
fn from_page(page: &mv_event_t) -> Option<(Events, Option<u8>)> {
    let has = |flag: u64| page.flags & flag != 0;
    if page.flags & !abi::MV_EVENT_ALL != 0 {
        return None;
    }
    let interrupt = has(abi::MV_EVENT_INTERRUPT | abi::MV_EVENT_INTERRUPT_INJECTED)
        .then(|| u8::try_from(page.interrupt_vector).ok());
    let interrupt = match interrupt {
        Some(vector) => Some(vector?),
        None => None,
    };
    let shadow = if has(abi::MV_EVENT_SHADOW_MOV_SS) {
        Shadow::MovSs
    } else if has(abi::MV_EVENT_SHADOW_STI) {
        Shadow::Sti
    } else {
        Shadow::None
    };
    let queued = if has(abi::MV_EVENT_EXCEPTION) { Some(exception(page)?) } else { None };
    let held_back = queued.and_then(|queued| match queued {
        QueuedException {
            exception: Exception { vector: vector::DB, payload: Some(causes), .. },
            stage: Stage::Pending,
        } if shadow == Shadow::MovSs => Some(causes),
        _ => None,
    });
    let events = Events {
        exception: if held_back.is_some() { None } else { queued },
        interrupt: None,
        nmi_injected: has(abi::MV_EVENT_NMI_INJECTED),
        nmi_pending: has(abi::MV_EVENT_NMI),
        nmi_blocked: has(abi::MV_EVENT_NMI_BLOCKED),
        shadow,
        debug_traps: held_back.unwrap_or(0),
        triple_fault: has(abi::MV_EVENT_TRIPLE_FAULT),
        smi_pending: has(abi::MV_EVENT_SMI),
        smm: has(abi::MV_EVENT_SMM),
        smm_inside_nmi: has(abi::MV_EVENT_SMM_INSIDE_NMI),
    };
    Some((events, interrupt))
}

fn exception(page: &mv_event_t) -> Option<QueuedException> {
    let is = |flag: u64| page.flags & flag != 0;
    let nmi = page.exception_vector == u32::from(vector::NMI);
    if page.exception_vector > LAST_EXCEPTION || nmi {
        return None;
    }
    let exception = Exception {
        vector: page.exception_vector as u8,
        error_code: is(abi::MV_EVENT_EXCEPTION_HAS_ERROR_CODE).then_some(page.exception_error_code),
        payload: is(abi::MV_EVENT_EXCEPTION_HAS_PAYLOAD).then_some(page.exception_payload),
    };
    let injected = is(abi::MV_EVENT_EXCEPTION_INJECTED);
    let stage = if injected { Stage::Injected } else { Stage::Pending };
    Some(QueuedException { exception, stage })
}
