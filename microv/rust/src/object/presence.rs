//! Whether a vCPU may still use pages that were taken out of the page map.
//!
//! Who uses the state of a VS is present from before the first access to guest memory to after the
//! last. Whoever unmaps asks for a flush and then waits until the vCPU has either acknowledged it or
//! was seen absent: one that comes back flushes before it uses what it remembers.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use cpu_engine::{Forget, Kick};

use super::sleep_counts::SleepCounts;
use crate::hyperv::StartPort;
use crate::hyperv::inhibition::Inhibition;
use crate::hyperv::synic_port::SynicPort;
use crate::irqchip::port::LapicPort;

/// What other threads see and ask of a vCPU.
#[derive(Debug, Default)]
pub struct Presence {
    /// The number of the VS.
    pub vsid: u16,
    /// Makes it leave, flush and acknowledge.
    pub kick: Arc<Kick>,
    /// Its local APIC, where the VM has interrupt controllers.
    pub lapic: LapicPort,
    /// Its next HLT ends at once.
    unhalted: AtomicBool,
    /// Frequency of its time-stamp counter.
    pub tsc_khz: AtomicU32,
    /// What its counter is ahead of the host's, once that is scaled.
    pub tsc_offset: AtomicU64,
    /// Its synthetic interrupt controller.
    pub synic: SynicPort,
    /// Its number in Hyper-V's sets of processors.
    pub vp_index: AtomicU32,
    /// Whether hypercalls may flush it, and whom it waits for to flush.
    pub inhibition: Inhibition,
    /// Where a hypercall of another one starts it.
    pub start: StartPort,
    /// MV_ACTIVITY_* of a vCPU in run.
    pub activity: AtomicU64,
    /// How often and how long it has slept.
    pub sleep_counts: SleepCounts,
    present: AtomicBool,
    /// The vCPU's thread waits for a notification, or is about to. Set and taken behind `bed`; looked
    /// at without, so that whoever notifies a vCPU that executes takes no lock.
    asleep: AtomicBool,
    bed: Mutex<()>,
    woken: Condvar,
}

impl Presence {
    /// That of the VS with this number.
    pub fn of(vsid: u16) -> Presence {
        Presence { vsid, ..Presence::default() }
    }

    /// The calling thread uses the vCPU for as long as the result lives.
    pub fn enter(&self) -> Present<'_> {
        self.present.store(true, Ordering::Relaxed);
        // Orders the store before this thread's reads of the page map; see `has_forgotten`.
        fence(Ordering::SeqCst);
        Present(self)
    }

    /// Tells the vCPU that something waits in its inbox or at its controllers: it looks at the next
    /// block end, and wakes up if it sleeps.
    pub fn notify(&self) {
        self.kick.look();
        if self.wake() {
            self.sleep_counts.add_wakeup();
        }
    }

    /// Ends the vCPU's HLT, or its next one, whatever interrupts do.
    pub fn unhalt(&self) {
        self.unhalted.store(true, Ordering::Release);
        self.notify();
    }

    /// Whether [`Self::unhalt`] was called since the last HLT ended.
    pub fn is_unhalted(&self) -> bool {
        self.unhalted.load(Ordering::Acquire)
    }

    /// A HLT ends.
    pub fn take_unhalted(&self) -> bool {
        self.is_unhalted() && self.unhalted.swap(false, Ordering::AcqRel)
    }

    /// Asks the vCPU to drop what it remembers of the page map; see [`Self::has_forgotten`].
    pub fn ask_for_flush(&self) {
        self.kick.flush();
        self.wake();
    }

    /// Asks the vCPU to drop translations of its guest; see [`Self::has_forgotten`].
    pub fn ask_to_forget(&self, forget: &Forget) {
        self.kick.forget(forget);
        self.wake();
    }

    /// Asks the vCPU to look up the next page that it writes; see [`Self::has_forgotten`].
    pub fn ask_for_protect(&self) {
        self.kick.protect();
        self.wake();
    }

    /// Makes the vCPU leave the guest.
    pub fn ask_for_exit(&self) {
        self.kick.exit();
        self.wake();
    }

    /// Has the vCPU say how many instructions it has executed, soon.
    pub fn ask_for_count(&self) {
        self.kick.count();
    }

    /// Has the vCPU come to the questions of its VS.
    pub fn ask_for_pause(&self) {
        self.kick.pause();
        self.wake();
    }

    /// After a request: either the sleeper sees that, or its sleep is seen here, as both are
    /// sequentially consistent. Whether it slept.
    fn wake(&self) -> bool {
        if !self.asleep.load(Ordering::SeqCst) {
            return false;
        }
        let _bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        let slept = self.asleep.swap(false, Ordering::SeqCst);
        if slept {
            self.woken.notify_all();
        }
        slept
    }

    /// Sleeps until a notification. Returns at once where one came since the vCPU last looked.
    pub fn sleep(&self) {
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, Ordering::SeqCst);
        self.sleep_counts.set_asleep();
        while self.asleep.load(Ordering::SeqCst) && !self.kick.requested() {
            bed = self.woken.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Since the flush was asked for, the vCPU has flushed or was absent.
    pub fn has_forgotten(&self) -> bool {
        // Orders the removal from the page map before the look: one of both sees the other.
        fence(Ordering::SeqCst);
        self.kick.acked() || !self.present.load(Ordering::Acquire)
    }
}

/// Presence for a time.
#[derive(Debug)]
pub struct Present<'a>(&'a Presence);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.present.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use cpu_engine::{Halted, NoControllers, TscClock, Vcpu};

    use super::*;

    /// Two processors that are halted, of which one is always the other's turn.
    #[test]
    fn no_request_is_slept_through() {
        const TURNS: usize = 20_000;
        let presences = [Presence::default(), Presence::default()];
        let take_turns = |me: usize| {
            let (mine, other) = (&presences[me], &presences[1 - me]);
            let clock = TscClock::new(1_000_000);
            let mut vcpu = Vcpu::new(Arc::default(), Arc::clone(&mine.kick), Vec::new(), clock);
            if me == 0 {
                other.ask_for_exit();
            }
            for _ in 0..TURNS {
                while vcpu.poll_halted(&mut NoControllers) != Halted::Left {
                    mine.sleep();
                }
                other.ask_for_exit();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| take_turns(0));
            scope.spawn(|| take_turns(1));
        });
    }

    #[test]
    fn a_present_vcpu_has_to_acknowledge_and_an_absent_one_has_not() {
        let vcpu = Presence::default();
        let present = vcpu.enter();
        vcpu.kick.flush();
        assert!(!vcpu.has_forgotten());
        drop(present);
        assert!(vcpu.has_forgotten());
    }
}
