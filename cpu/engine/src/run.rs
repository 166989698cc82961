//! The run loop: requests of other threads, pending events, execution, exits.

use cpu_interp::Outcome;
use cpu_interp::state::Shadow;

use crate::{Count, Exit, Vcpu};

impl Vcpu {
    /// The guest could take an external interrupt now: RFLAGS.IF, no shadow of STI or MOV SS, no
    /// event and no unfinished instruction waiting.
    #[must_use]
    pub fn interruptible(&self) -> bool {
        let cpu = self.cpu();
        let open = cpu.interrupts_enabled() && cpu.arch.shadow == Shadow::None;
        open && !self.queue.any() && self.unfinished.is_none()
    }

    /// Executes until an exit. With `window` also leaves as soon as the guest is
    /// [interruptible](Self::interruptible).
    ///
    /// An instruction that waits for [`Self::complete`] starts anew, or, if it was a write, counts
    /// as done.
    pub fn run(&mut self, window: bool) -> Exit {
        let exit = self.run_until_exit(window);
        self.counters.add_exit(&exit);
        exit
    }

    fn run_until_exit(&mut self, window: bool) -> Exit {
        let kick = self.kick.clone();
        let _running = kick.enter();
        self.abandon_unfinished();
        self.prepare();
        if std::mem::take(&mut self.queue.triple_fault) {
            return Exit::Shutdown;
        }
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
            let waiting = self.queue.any();
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
            self.counters.add(Count::Flushes);
            self.kick.ack_flush();
        }
        if self.kick.protect_requested() {
            self.cpu_mut().memory.tlb.trap_all_writes();
            self.kick.ack_protect();
        }
    }
}
