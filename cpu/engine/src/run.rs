//! The run loop: requests of other threads, pending events, execution, exits.

use cpu_interp::state::Shadow;
use cpu_interp::{MANY_NOTED, Outcome};

use crate::trace::TRACE_INSTRUCTIONS;
use crate::{Controllers, Count, Exit, NoControllers, Vcpu};

/// What a halted processor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halted {
    /// Goes on: an event waits.
    Woken,
    /// Waits on.
    Asleep,
    /// Was asked to pause.
    Paused,
    /// Was asked to leave by a kick.
    Left,
    /// The controllers have something that the caller has to act on first.
    Arrived,
}

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
        self.run_with(window, &mut NoControllers)
    }

    /// As [`Self::run`], with interrupt controllers, whose interrupts are taken after those of
    /// [`Self::queue_interrupt`].
    pub fn run_with(&mut self, window: bool, controllers: &mut dyn Controllers) -> Exit {
        let exit = self.run_until_exit(window, controllers);
        self.cpu_mut().memory.shared_code.end();
        if exit != Exit::Paused {
            self.counters.add_exit(&exit);
            self.trace_exit(&exit);
        }
        exit
    }

    fn run_until_exit(&mut self, window: bool, controllers: &mut dyn Controllers) -> Exit {
        let kick = self.kick.clone();
        let _running = kick.enter();
        self.abandon_unfinished();
        self.prepare();
        if self.lost {
            return Exit::Lost;
        }
        if std::mem::take(&mut self.queue.triple_fault) {
            return Exit::Shutdown;
        }
        kick.look();
        loop {
            if kick.any() {
                kick.take_catch_up();
                self.forget_if_asked();
                if kick.take_look() && self.look_at(controllers) {
                    return Exit::Arrived;
                }
                if kick.take_exit() {
                    return Exit::Interrupted;
                }
                if kick.take_pause() {
                    return Exit::Paused;
                }
            }
            self.cpu_mut().memory.catch_up();
            if cpu_mem::noted() >= MANY_NOTED {
                return Exit::Noted;
            }
            if let Err(stop) = self.deliver_events(controllers) {
                return self.exit_for_stop(stop);
            }
            if window && self.interruptible() && controllers.accepts_external() {
                return Exit::InterruptWindow;
            }
            let waiting = self.queue.any() || controllers.has_interrupt(self.cr8());
            self.cpu_mut().watch_interrupt_flag = window || waiting;
            let smm = self.in_smm();
            let outcome = match self.trace.wants(TRACE_INSTRUCTIONS) {
                true => self.step_traced(),
                false => self.tier.run(&mut self.interp, &kick, &self.code_limit),
            };
            match outcome {
                // An INIT may have waited for the end of the mode.
                Outcome::Boundary if smm && !self.in_smm() => kick.look(),
                Outcome::Boundary => {}
                outcome => return self.exit_for(outcome),
            }
        }
    }

    #[cold]
    fn step_traced(&mut self) -> Outcome {
        self.trace_instruction();
        self.interp.step()
    }

    /// Looks whether a processor that executed HLT has something to do.
    pub fn poll_halted(&mut self, controllers: &mut dyn Controllers) -> Halted {
        let kick = self.kick.clone();
        if kick.any() {
            kick.take_catch_up();
            self.forget_if_asked();
            if kick.take_look() && self.look_at(controllers) {
                return Halted::Arrived;
            }
            if kick.take_exit() {
                return Halted::Left;
            }
            if kick.take_pause() {
                return Halted::Paused;
            }
        }
        if self.wakes_from_halt(controllers) { Halted::Woken } else { Halted::Asleep }
    }

    /// Looks whether a processor that executes nothing and takes no event is to leave. What has come is
    /// looked at when it runs again.
    pub fn poll_suspended(&mut self) -> Halted {
        let kick = self.kick.clone();
        kick.take_catch_up();
        self.forget_if_asked();
        // The next run looks, and catches up, in any case.
        kick.take_look();
        if kick.take_exit() {
            return Halted::Left;
        }
        if kick.take_pause() { Halted::Paused } else { Halted::Asleep }
    }

    /// Takes what has come; whether the caller has to act on something first.
    pub fn look_at(&mut self, controllers: &mut dyn Controllers) -> bool {
        let arrived = controllers.look(self.cpu().tsc(), self.in_smm());
        if arrived.nmi {
            self.inject_nmi();
        }
        if arrived.smi {
            self.inject_smi();
        }
        if let Some(cr8) = arrived.cr8 {
            self.cpu_mut().arch.cr8 = u64::from(cr8 & 0xF);
        }
        arrived.leave
    }

    pub(crate) fn cr8(&self) -> u8 {
        self.cpu().arch.cr8 as u8
    }

    /// Executes one instruction (at least one iteration of a string instruction), without looking
    /// at pending events or kicks. Some: it has exited.
    pub fn step(&mut self) -> Option<Exit> {
        let kick = self.kick.clone();
        let _running = kick.enter();
        self.abandon_unfinished();
        self.prepare();
        let outcome = self.interp.step();
        self.cpu_mut().memory.shared_code.end();
        match outcome {
            Outcome::Boundary => None,
            outcome => Some(self.exit_for(outcome)),
        }
    }

    /// The caller's client has had its turn, and has none until [`Self::end_turn`]: in between code is
    /// not compared with memory because of the client's stores. Without a turn each call of
    /// [`Self::run`] compares it.
    pub fn begin_turn(&mut self) {
        self.interp.distrust_code();
        self.in_turn = true;
    }

    /// Undoes [`Self::begin_turn`].
    pub fn end_turn(&mut self) {
        self.in_turn = false;
    }

    /// Makes cached state right again after the host had its turn.
    pub(crate) fn prepare(&mut self) {
        let memory = &mut self.cpu_mut().memory;
        memory.shared_code.begin();
        memory.catch_up();
        self.forget_if_asked();
        if std::mem::take(&mut self.paging_changed) {
            if !std::mem::take(&mut self.pdptes_given) {
                self.cpu_mut().reload_pdptes();
            }
            self.cpu_mut().refresh_paging();
        }
        if !self.in_turn {
            self.interp.distrust_code();
        }
    }

    /// Drops what [`crate::Kick::flush`], [`crate::Kick::forget`] and [`crate::Kick::protect`] ask to be
    /// dropped, if they do. Who waits for other processors to do so does it itself meanwhile, for they may
    /// wait for it.
    pub fn forget_if_asked(&mut self) {
        if self.kick.flush_requested() {
            self.interp.flush();
            self.counters.add(Count::Flushes);
            self.kick.ack_flush();
        }
        if self.kick.forget_requested() {
            let kick = self.kick.clone();
            kick.answer_forget(|list| list.iter().for_each(|forget| self.forget(forget)));
            self.counters.add(Count::Flushes);
        }
        if self.kick.protect_requested() {
            self.cpu_mut().memory.tlb.trap_all_writes();
            self.kick.ack_protect();
        }
    }
}
