//! What reaches a VS from outside: interrupts, exceptions, state changes, kicks.

use crate::abi::id::MV_INVALID_ID;
use crate::call::Call;
use crate::mp_state::MpState;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

/// Makes the VS leave with exit reason interrupt, now or as soon as it runs next. The only call that
/// reaches a VS running on another PP.
pub fn kick(call: &Call) -> OpResult {
    ids::vs(call)?.presence.ask_for_exit();
    Ok(Outcome::Done)
}

/// R10 becomes mv_mp_state_t, after INIT and start-up that have come to the local APIC.
pub fn mp_state_get(call: &Call) -> OpResult {
    let vs = ids::vs(call)?;
    let mut state = vs.lock()?;
    let vcpus = vs.vp.vm.vcpus();
    if let Some(mut processor) = vs.processor(&mut state, &vcpus) {
        processor.accept_signals();
    }
    Ok(Outcome::Value(state.activity().number()))
}

/// R12 is mv_mp_state_t. Coming to `init` from another state resets the VS, unless it has a local APIC:
/// INIT resets it there. With `sipi` R13 is the vector of the start-up, which a local APIC takes.
pub fn mp_state_set(call: &Call) -> OpResult {
    super::done(call, |state| {
        let new = MpState::from_number(call.regs.r12).ok_or(Failure::Reg2)?;
        let vector = u8::try_from(call.regs.r13).map_err(|_| Failure::Reg3)?;
        if new == MpState::Init && state.mp_state != MpState::Init && state.lapic.is_none() {
            state.vcpu.init_reset();
            state.paravirt.init();
        }
        state.mp_state = new;
        if new == MpState::Sipi && state.lapic.is_some() {
            state.mp_state = MpState::Init;
            state.start_up(vector);
        }
        state.publish_activity();
        Ok(())
    })
}

/// R12 is a vector: any of 0 to 255, as KVM_INTERRUPT has it, although hardware never delivers external
/// interrupts below 16. Refused while as many as the VS can hold wait.
pub fn queue_interrupt(call: &Call) -> OpResult {
    super::done(call, |state| {
        let vector = u8::try_from(call.regs.r12).map_err(|_| Failure::Reg2)?;
        state.vcpu.queue_interrupt(vector).map_err(|_| Failure::Unknown)
    })
}

/// R10 becomes the vector of the interrupt that waits to be taken, or MV_INVALID_ID.
pub fn queued_interrupt(call: &Call) -> OpResult {
    super::value(call, |state| Ok(state.vcpu.queued_interrupt().map_or(MV_INVALID_ID, u64::from)))
}

/// R12 is the vector, R13 the error code where the exception has one, else ignored. Vector 2 is NMI.
pub fn inject_exception(call: &Call) -> OpResult {
    super::done(call, |state| {
        let vector = injectable(call.regs.r12).ok_or(Failure::Reg2)?;
        match vector {
            NMI => state.vcpu.inject_nmi(),
            8 | 10..=14 | 17 => {
                let error_code = u32::try_from(call.regs.r13).map_err(|_| Failure::Reg3)?;
                state.vcpu.inject_exception(vector, Some(error_code));
            }
            _ => state.vcpu.inject_exception(vector, None),
        }
        Ok(())
    })
}

/// No input but the VS.
pub fn inject_smi(call: &Call) -> OpResult {
    super::done(call, |state| {
        state.vcpu.inject_smi();
        Ok(())
    })
}

const NMI: u8 = 2;

/// The vector, where the architecture defines it.
fn injectable(vector: u64) -> Option<u8> {
    let vector = u8::try_from(vector).ok()?;
    matches!(vector, 0..=8 | 10..=14 | 16..=19).then_some(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_vectors_cannot_be_injected() {
        for vector in [9, 15, 20, 31, 32, 255, 256, u64::MAX] {
            assert_eq!(injectable(vector), None);
        }
        assert_eq!((0..32).filter_map(injectable).count(), 18);
    }
}
