//! HvCallStartVirtualProcessor: a processor that waits for INIT or start-up begins with the registers
//! that it is given, those of INIT else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use cpu_defs::{Reg, SegField, SegReg, rflags};
use cpu_engine::{Controls, Vcpu};
use cpu_paravirt::hyperv::hypercall::Status;
use cpu_paravirt::hyperv::vp_context::{self, VpContext};

use super::Hyperv;
use super::hypercall::Caller;
use super::registers::is_sound;

/// Partition, processor, virtual trust level and padding; the context follows.
const HEAD: usize = 16;
const TARGET_VTL: usize = 12;

/// Where a processor is given its start.
#[derive(Debug, Default)]
pub struct StartPort {
    /// The processor waits for INIT or start-up.
    waits: AtomicBool,
    given: AtomicBool,
    context: Mutex<Option<VpContext>>,
}

impl StartPort {
    /// Whether the processor waits, by who uses its state.
    pub fn set_waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Release);
    }

    /// Gives the processor a start; false where it does not wait for one, or has one.
    fn give(&self, start: VpContext) -> bool {
        let mut context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.waits.load(Ordering::Acquire) || context.is_some() {
            return false;
        }
        *context = Some(start);
        self.given.store(true, Ordering::Release);
        true
    }

    /// Takes what the processor was given.
    pub fn take(&self) -> Option<VpContext> {
        if !self.given.load(Ordering::Acquire) {
            return None;
        }
        let mut context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        self.given.store(false, Ordering::Relaxed);
        context.take()
    }
}

impl Hyperv {
    /// HvCallStartVirtualProcessor.
    pub(super) fn start(&self, vcpu: &Vcpu, caller: &Caller) -> Status {
        self.try_start(vcpu, caller).err().unwrap_or(Status::Success)
    }

    fn try_start(&self, vcpu: &Vcpu, caller: &Caller) -> Result<(), Status> {
        let input = self.input(caller, HEAD + vp_context::SIZE)?;
        self.check_partition(&input)?;
        let target = self.processor_of(&input)?;
        if input[TARGET_VTL] != 0 {
            return Err(Status::InvalidVtlState);
        }
        let mut bytes = [0; vp_context::SIZE];
        bytes.copy_from_slice(&input[HEAD..]);
        let context = VpContext::of(&bytes);
        if !is_possible(vcpu, &context) {
            return Err(Status::InvalidRegisterValue);
        }
        // Where the root has the local APICs it starts processors itself.
        if self.vm.irqchip.get().is_none() || !target.start.give(context) {
            return Err(Status::InvalidVpState);
        }
        target.notify();
        Ok(())
    }
}

/// Whether a processor like this one can be in such a state.
fn is_possible(vcpu: &Vcpu, context: &VpContext) -> bool {
    let flags = context.value(Reg::Rflags);
    let controls = Controls {
        cr0: context.value(Reg::Cr0),
        cr3: context.value(Reg::Cr3),
        cr4: context.value(Reg::Cr4),
        efer: context.efer,
        cs: context.value(Reg::Segment(SegReg::Cs, SegField::Attrib)) as u16,
    };
    flags & rflags::FIXED_ONE != 0
        && context.pat.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7))
        && context.registers.iter().all(|&(reg, value)| is_sound(vcpu, reg, value))
        && vcpu.check_controls(&controls).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hv_47_start_is_given_once_and_only_to_who_waits() {
        let context = VpContext::of(&[0; vp_context::SIZE]);
        let port = StartPort::default();
        assert!(!port.give(context.clone()));
        port.set_waits(true);
        assert!(port.take().is_none());
        assert!(port.give(context.clone()));
        assert!(!port.give(context.clone()));
        assert_eq!(port.take(), Some(context));
        assert!(port.take().is_none());
    }
}
