//! The run loop: requests of other threads, pending events, execution, exits.
//!
//! SDM volume 3, "Priority Among Concurrent Events": injected exception, NMI, interrupt.

use cpu_defs::{Exception, rflags};
use cpu_interp::state::Shadow;
use cpu_interp::{Outcome, Stop};

use crate::{Exit, QueueFull, Vcpu};

/// Events given by the host and not yet delivered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Events {
    exception: Option<Exception>,
    nmi: bool,
    interrupt: Option<u8>,
}

impl Events {
    fn any(&self) -> bool {
        self.exception.is_some() || self.nmi || self.interrupt.is_some()
    }
}

impl Vcpu {
    /// Queues an external interrupt; it is delivered as soon as the guest can take it.
    ///
    /// # Errors
    /// [`QueueFull`] while another one waits.
    pub fn queue_interrupt(&mut self, vector: u8) -> Result<(), QueueFull> {
        if self.events.interrupt.is_some() {
            return Err(QueueFull);
        }
        self.events.interrupt = Some(vector);
        Ok(())
    }

    /// The external interrupt that still waits.
    #[must_use]
    pub fn queued_interrupt(&self) -> Option<u8> {
        self.events.interrupt
    }

    /// Has an exception delivered before the next instruction. Replaces one still waiting.
    pub fn inject_exception(&mut self, vector: u8, error_code: Option<u32>) {
        self.events.exception = Some(Exception { vector, error_code, payload: None });
    }

    /// Queues an NMI; it is delivered as soon as NMIs are not blocked.
    pub fn inject_nmi(&mut self) {
        self.events.nmi = true;
    }

    /// The guest could take an external interrupt now: RFLAGS.IF, no shadow of STI or MOV SS, no
    /// event and no unfinished instruction waiting.
    #[must_use]
    pub fn interruptible(&self) -> bool {
        let arch = &self.cpu().arch;
        let open = arch.rflags & rflags::IF != 0 && arch.shadow == Shadow::None;
        open && !self.events.any() && self.unfinished.is_none()
    }

    /// Executes until an exit. With `window` also leaves as soon as the guest is
    /// [interruptible](Self::interruptible).
    ///
    /// An instruction that waits for [`Self::complete`] starts anew, or, if it was a write, counts
    /// as done.
    pub fn run(&mut self, window: bool) -> Exit {
        let kick = self.kick.clone();
        let _running = kick.enter();
        self.abandon_unfinished();
        self.prepare();
        loop {
            if kick.any() {
                self.flush_if_asked();
                if kick.take_exit() {
                    return Exit::Interrupted;
                }
            }
            if let Err(stop) = self.deliver_events() {
                return self.exit_for_stop(stop);
            }
            if window && self.interruptible() {
                return Exit::InterruptWindow;
            }
            let waiting = self.events.any();
            self.cpu_mut().watch_interrupt_flag = window || waiting;
            match self.interp.run(|| kick.any()) {
                Outcome::Boundary => {}
                outcome => return self.exit_for(outcome),
            }
        }
    }

    /// Executes one instruction (at least one iteration of a string instruction), without looking
    /// at pending events or kicks. Some: it has exited.
    pub fn step(&mut self) -> Option<Exit> {
        let kick = self.kick.clone();
        let _running = kick.enter();
        self.abandon_unfinished();
        self.prepare();
        match self.interp.step() {
            Outcome::Boundary => None,
            outcome => Some(self.exit_for(outcome)),
        }
    }

    /// Makes cached state right again after the host had its turn.
    pub(crate) fn prepare(&mut self) {
        self.flush_if_asked();
        if std::mem::take(&mut self.paging_changed) {
            let cpu = self.cpu_mut();
            cpu.reload_pdptes();
            cpu.refresh_paging();
        }
        self.interp.distrust_code();
    }

    fn flush_if_asked(&mut self) {
        if self.kick.flush_requested() {
            self.interp.flush();
            self.kick.ack_flush();
        }
    }

    fn deliver_events(&mut self) -> Result<(), Stop> {
        self.cpu_mut().deliver_debug_traps()?;
        if let Some(exception) = self.events.exception.take() {
            self.cpu_mut().deliver_exception(exception)?;
        }
        let arch = &self.cpu().arch;
        if arch.shadow != Shadow::None {
            return Ok(());
        }
        if self.events.nmi && !arch.nmi_blocked {
            self.events.nmi = false;
            self.cpu_mut().deliver_nmi()?;
        }
        let open = self.cpu().arch.rflags & rflags::IF != 0;
        if open && let Some(vector) = self.events.interrupt.take() {
            self.cpu_mut().deliver_interrupt(vector)?;
        }
        // The pushes may have met a breakpoint.
        self.cpu_mut().deliver_debug_traps()
    }
}
