//! Events on their way to the guest.
//!
//! As in VMX, SVM and KVM a raised event, one whose delivery has begun, and one that waits until the
//! guest can take it are told apart: only the first can still be intercepted, and only the second is
//! delivered whatever the guest's flags say.

use cpu_defs::{Exception, vector};
use cpu_interp::state::Shadow;
use cpu_interp::{Request, Stop};

use crate::trace::Event;
use crate::{Controllers, Count, QueueFull, Vcpu};

/// How far an exception has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Raised. CR2 or DR6 have not been changed if it has a payload.
    Pending,
    /// Its delivery has begun, maybe without an end.
    Injected,
}

/// An exception that has not been delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedException {
    /// What was raised.
    pub exception: Exception,
    /// How far it has come.
    pub stage: Stage,
}

/// An interrupt whose delivery has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedInterrupt {
    /// Its vector.
    pub vector: u8,
    /// For INT n the length of the instruction in bytes, which RIP is still to be moved by.
    pub soft_len: Option<u8>,
}

/// Every event that waits, and what holds events back. KVM_GET_VCPU_EVENTS without INIT and SIPI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The exception in flight.
    pub exception: Option<QueuedException>,
    /// The interrupt in flight; not one that waits for RFLAGS.IF.
    pub interrupt: Option<InjectedInterrupt>,
    /// The delivery of an NMI has begun.
    pub nmi_injected: bool,
    /// An NMI waits.
    pub nmi_pending: bool,
    /// NMIs wait until IRET.
    pub nmi_blocked: bool,
    /// Of STI or MOV SS.
    pub shadow: Shadow,
    /// Traps that a load of SS holds back, as bits of DR6.
    pub debug_traps: u64,
    /// The next run ends in a shutdown.
    pub triple_fault: bool,
    /// An SMI waits.
    pub smi_pending: bool,
    /// In system management mode.
    pub smm: bool,
    /// NMIs were blocked when it was entered.
    pub smm_inside_nmi: bool,
}

/// What a vCPU keeps of [`Events`] outside of its registers, and the interrupt that waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Queue {
    exception: Option<QueuedException>,
    injected: Option<InjectedInterrupt>,
    nmi_injected: bool,
    nmi_pending: bool,
    smi_pending: bool,
    pub(crate) triple_fault: bool,
    /// Waits for the guest to be interruptible.
    waiting: Option<u8>,
}

impl Queue {
    pub(crate) fn any(&self) -> bool {
        let in_flight = self.exception.is_some() || self.injected.is_some() || self.nmi_injected;
        in_flight || self.nmi_pending || self.waiting.is_some()
    }
}

impl Vcpu {
    /// The events that have not been delivered.
    #[must_use]
    pub fn events(&self) -> Events {
        let arch = &self.cpu().arch;
        Events {
            exception: self.queue.exception,
            interrupt: self.queue.injected,
            nmi_injected: self.queue.nmi_injected,
            nmi_pending: self.queue.nmi_pending,
            nmi_blocked: arch.nmi_blocked,
            shadow: arch.shadow,
            debug_traps: arch.pending_debug,
            triple_fault: self.queue.triple_fault,
            smi_pending: self.queue.smi_pending,
            smm: arch.smm,
            smm_inside_nmi: arch.smm_inside_nmi,
        }
    }

    /// Replaces the events that have not been delivered. The interrupt of
    /// [`Self::queue_interrupt`] stays. Coming into system management mode or out of it changes no
    /// register.
    pub fn set_events(&mut self, events: &Events) {
        if self.cpu().arch.smm != events.smm {
            self.interp.set_smm(events.smm);
        }
        self.queue.smi_pending = events.smi_pending;
        self.queue.exception = events.exception;
        self.queue.injected = events.interrupt;
        self.queue.nmi_injected = events.nmi_injected;
        self.queue.nmi_pending = events.nmi_pending;
        self.queue.triple_fault = events.triple_fault;
        let arch = &mut self.cpu_mut().arch;
        arch.nmi_blocked = events.nmi_blocked;
        arch.shadow = events.shadow;
        arch.pending_debug = events.debug_traps;
        arch.smm_inside_nmi = events.smm && events.smm_inside_nmi;
    }

    /// Queues an external interrupt; it is delivered as soon as the guest can take it.
    ///
    /// # Errors
    /// [`QueueFull`] while another one waits.
    pub fn queue_interrupt(&mut self, vector: u8) -> Result<(), QueueFull> {
        if self.queue.waiting.is_some() {
            return Err(QueueFull);
        }
        self.queue.waiting = Some(vector);
        Ok(())
    }

    /// Replaces the external interrupt that waits.
    pub fn set_queued_interrupt(&mut self, vector: Option<u8>) {
        self.queue.waiting = vector;
    }

    /// The external interrupt that still waits.
    #[must_use]
    pub fn queued_interrupt(&self) -> Option<u8> {
        self.queue.waiting
    }

    /// Has an exception delivered before the next instruction. Replaces one still waiting.
    pub fn inject_exception(&mut self, vector: u8, error_code: Option<u32>) {
        let exception = Exception { vector, error_code, payload: None };
        self.queue.exception = Some(QueuedException { exception, stage: Stage::Injected });
    }

    /// Queues an NMI; it is delivered as soon as NMIs are not blocked.
    pub fn inject_nmi(&mut self) {
        self.queue.nmi_pending = true;
    }

    /// Has the guest enter system management mode, as soon as it is not in that mode.
    pub fn inject_smi(&mut self) {
        self.queue.smi_pending = true;
    }

    /// The guest is in system management mode.
    #[must_use]
    pub fn in_smm(&self) -> bool {
        self.cpu().arch.smm
    }

    /// Delivers what the guest can take: SDM volume 3, "Priority Among Concurrent Events". An event
    /// whose delivery cannot be finished stays injected.
    pub(crate) fn deliver_events(&mut self, controllers: &mut dyn Controllers) -> Result<(), Stop> {
        self.deliver_injected()?;
        self.cpu_mut().deliver_debug_traps()?;
        if let Some(queued) = &mut self.queue.exception {
            queued.stage = Stage::Injected;
            self.deliver_injected()?;
        }
        if self.cpu().host_debug.block_interrupts {
            return Ok(());
        }
        // No shadow keeps it out: the shadow is saved.
        if self.queue.smi_pending && !self.cpu().arch.smm {
            self.queue.smi_pending = false;
            self.trace_event(Event::Smi, 0, None);
            self.lost = !self.interp.enter_smm();
            if self.lost {
                return Err(Stop::Shutdown);
            }
        }
        if self.cpu().arch.shadow != Shadow::None {
            return Ok(());
        }
        if self.queue.nmi_pending && !self.cpu().arch.nmi_blocked {
            self.queue.nmi_pending = false;
            self.queue.nmi_injected = true;
            self.counters.add(Count::Nmis);
            self.deliver_injected()?;
        }
        if self.cpu().interrupts_enabled()
            && let Some(vector) = self.next_interrupt(controllers)
        {
            self.queue.injected = Some(InjectedInterrupt { vector, soft_len: None });
            self.counters.add(Count::Interrupts);
            self.deliver_injected()?;
        }
        // The pushes may have met a breakpoint.
        self.cpu_mut().deliver_debug_traps()
    }

    /// Whether an event ends HLT.
    pub(crate) fn wakes_from_halt(&self, controllers: &mut dyn Controllers) -> bool {
        let queue = &self.queue;
        let in_flight = queue.exception.is_some() || queue.injected.is_some() || queue.nmi_injected;
        let arch = &self.cpu().arch;
        let nmi = queue.nmi_pending && !arch.nmi_blocked;
        let smi = queue.smi_pending && !arch.smm;
        let external = queue.waiting.is_some() && controllers.accepts_external();
        let interrupt = external || controllers.has_interrupt(self.cr8());
        in_flight || nmi || smi || (interrupt && self.cpu().interrupts_enabled())
    }

    fn next_interrupt(&mut self, controllers: &mut dyn Controllers) -> Option<u8> {
        if self.queue.waiting.is_some() && controllers.accepts_external() {
            return self.queue.waiting.take();
        }
        if controllers.has_interrupt(self.cr8()) { controllers.acknowledge() } else { None }
    }

    /// Delivers the event whose delivery has begun.
    fn deliver_injected(&mut self) -> Result<(), Stop> {
        if let Some(QueuedException { exception, stage: Stage::Injected }) = self.queue.exception {
            self.trace_event(Event::Exception, exception.vector, exception.error_code);
            let outcome = self.cpu_mut().deliver_exception(exception);
            if !self.is_to_be_delivered_again(outcome) {
                self.queue.exception = None;
            }
            outcome?;
        }
        if self.queue.nmi_injected {
            self.trace_event(Event::Nmi, vector::NMI, None);
            let outcome = self.cpu_mut().deliver_nmi();
            self.queue.nmi_injected = self.is_to_be_delivered_again(outcome);
            outcome?;
        }
        if let Some(InjectedInterrupt { vector, soft_len }) = self.queue.injected {
            let event = soft_len.map_or(Event::Interrupt, |_| Event::SoftwareInterrupt);
            self.trace_event(event, vector, None);
            let outcome = match soft_len {
                Some(len) => self.cpu_mut().deliver_software_interrupt(vector, len),
                None => self.cpu_mut().deliver_interrupt(vector),
            };
            if !self.is_to_be_delivered_again(outcome) {
                self.queue.injected = None;
            }
            outcome?;
        }
        Ok(())
    }

    /// Something the host can change kept the event from being delivered.
    fn is_to_be_delivered_again(&self, outcome: Result<(), Stop>) -> bool {
        let refused = matches!(self.cpu().request, Some(Request::Refused { .. }));
        outcome == Err(Stop::Unsupported) || (outcome == Err(Stop::Exit) && refused)
    }
}
