//! VS, virtual-processor state: a register file and the engine that runs it.
//!
//! The state has one user at a time. A short operation on another PP is waited for; a VS that runs is
//! not: it answers "running", and only its kick reaches it. A panic inside leaves the VS poisoned.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use cpu_chipset::lapic::Signals;
use cpu_engine::trace::Trace;
use cpu_engine::{Counters, Personality};

use super::Vp;
use super::last_exit::LastExit;
use super::local_apic::LocalApic;
use super::presence::{Presence, Present};
use super::questions::Questions;
use super::state::State;
use crate::abi::quirk::MV_QUIRK_APIC_HOLE;
use crate::beside::Beside;
use crate::hyperv::inhibition;
use crate::irqchip::local::Local;
use crate::paravirt::eoi::SparedEnd;
use crate::processor::Processor;

/// How long a hypercall waits for a VS that runs before it answers "call again".
const PATIENCE: Duration = Duration::from_micros(200);

/// A VS of a guest VP.
#[derive(Debug)]
pub struct Vs {
    id: u16,
    /// The VP it belongs to, where it counts as a member.
    pub vp: Arc<Vp>,
    /// Reaches the VS while somebody else uses it.
    pub presence: Arc<Presence>,
    /// What it has done so far.
    pub counters: Arc<Counters>,
    /// What it does, as it does it.
    pub trace: Arc<Trace>,
    /// Why it came back to the root last.
    pub last_exit: LastExit,
    /// Asked by others while it runs.
    pub questions: Questions,
    running: AtomicBool,
    state: Mutex<State>,
}

/// Why the state of a VS cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It runs on another PP.
    Running,
    /// It was destroyed after it was looked up.
    Destroyed,
    /// A panic left it half changed.
    Poisoned,
}

impl Vs {
    /// A VS in its power-on state; the caller has joined the VP's members on its behalf. The frequency
    /// counts for the first VS of a VM, others share its time-stamp counter.
    pub fn new(id: u16, vp: Arc<Vp>, tsc_khz: u32, personality: Personality) -> Vs {
        let presence = Arc::new(Presence::of(id));
        let state = State::new(&vp.vm, &presence, tsc_khz, personality);
        vp.vm.add_vcpu(Arc::clone(&presence));
        let (counters, trace) = (state.vcpu.counters(), state.vcpu.trace());
        Vs {
            id,
            vp,
            presence,
            counters,
            trace,
            last_exit: LastExit::default(),
            questions: Questions::default(),
            running: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// vsid.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Becomes the user of the state.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn lock(&self) -> Result<StateGuard<'_>, Refusal> {
        loop {
            match self.state.try_lock() {
                Ok(state) if state.destroyed => return Err(Refusal::Destroyed),
                Ok(state) => return Ok(StateGuard { _present: self.presence.enter(), state }),
                Err(TryLockError::Poisoned(_)) => return Err(Refusal::Poisoned),
                Err(TryLockError::WouldBlock) if self.running.load(Ordering::Acquire) => {
                    return Err(Refusal::Running);
                }
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    }

    /// What `question` finds in the state, also where the VS runs: between two of its instructions then.
    /// None: it did not come to answer in time, and the caller may try again.
    ///
    /// # Errors
    /// [`Refusal::Destroyed`] and [`Refusal::Poisoned`].
    pub fn look<R: Send + 'static>(
        &self,
        question: impl FnOnce(&State) -> R + Send + 'static,
    ) -> Result<Option<R>, Refusal> {
        match self.lock() {
            Ok(state) => Ok(Some(question(&state))),
            Err(Refusal::Running) => {
                let call = || self.presence.ask_for_pause();
                Ok(self.questions.ask(PATIENCE, call, question))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// The VS with its controllers; None where the VM has none.
    pub fn processor<'a>(
        &'a self,
        state: &'a mut State,
        vcpus: &'a [Arc<Presence>],
    ) -> Option<Processor<'a>> {
        let vm = &self.vp.vm;
        let State { vcpu, mp_state, paravirt, synic, vapic, lapic, .. } = state;
        let LocalApic { lapic, alarm } = lapic.as_mut()?;
        let local = Local {
            lapic,
            irqchip: vm.irqchip.get()?,
            hole: vm.quirks() & MV_QUIRK_APIC_HOLE != 0,
            pit: vm.pit.get(),
            presence: &self.presence,
            vcpus,
        };
        synic.note_assist_page(paravirt.hyperv.assist_page());
        let beside = Beside {
            local,
            alarm,
            tsc_khz: vcpu.tsc_clock().real_khz(),
            signals: Signals::default(),
            steal_look: paravirt.next_look(),
            spared: SparedEnd::new(&vm.memory.normal, paravirt.pv_eoi()),
            vapic,
            synic,
            mem: &vm.memory.normal,
        };
        Some(Processor { vcpu, mp_state, paravirt, beside })
    }

    /// Makes others see "running" for as long as the result lives. Only the user of the state may.
    pub fn mark_running(&self) -> Running<'_> {
        self.running.store(true, Ordering::Release);
        Running(&self.running)
    }

    /// Takes the VS out of its VP and VM; nobody can use it afterwards. A poisoned VS too.
    ///
    /// # Errors
    /// [`Refusal::Running`], and [`Refusal::Destroyed`] where another call was faster.
    pub fn destroy(&self) -> Result<(), Refusal> {
        match self.lock() {
            Ok(mut state) => state.destroyed = true,
            Err(Refusal::Poisoned) => {
                // The flag alone is touched, so what else the panic left does not matter.
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if std::mem::replace(&mut state.destroyed, true) {
                    return Err(Refusal::Destroyed);
                }
            }
            Err(refusal) => return Err(refusal),
        }
        self.vp.vm.remove_vcpu(&self.presence);
        inhibition::forget(&self.vp.vm, &self.presence);
        self.vp.members.leave();
        Ok(())
    }
}

/// The one user of a state. Presence ends before the lock, so that it never ends for the next user.
#[derive(Debug)]
pub struct StateGuard<'a> {
    _present: Present<'a>,
    state: MutexGuard<'a, State>,
}

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

/// The VS runs for as long as this lives.
#[derive(Debug)]
pub struct Running<'a>(&'a AtomicBool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Vm;

    fn vs() -> Vs {
        let vm = Arc::new(Vm::new(1));
        assert!(vm.members.join());
        let vp = Arc::new(Vp::new(2, vm));
        assert!(vp.members.join());
        Vs::new(3, vp, 1000, Personality::of_host())
    }

    fn poison(vs: &Vs) {
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _state = vs.lock().unwrap();
            panic!("a bug");
        }));
        assert!(broken.is_err());
    }

    #[test]
    fn a_panic_poisons_the_vs_which_can_still_be_destroyed() {
        let vs = vs();
        poison(&vs);
        assert_eq!(vs.lock().err(), Some(Refusal::Poisoned));
        assert_eq!(vs.destroy(), Ok(()));
        assert_eq!(vs.destroy(), Err(Refusal::Destroyed));
    }

    #[test]
    fn destruction_happens_once_and_frees_vp_and_vm() {
        let vs = vs();
        assert_eq!(vs.vp.vm.vcpus().len(), 1);
        assert_eq!(vs.destroy(), Ok(()));
        assert_eq!(vs.destroy(), Err(Refusal::Destroyed));
        assert!(vs.vp.vm.vcpus().is_empty());
        assert_eq!(vs.vp.members.retire(), Ok(()));
    }

    #[test]
    fn a_running_vs_is_neither_lent_nor_destroyed() {
        let vs = vs();
        let state = vs.lock().unwrap();
        let running = vs.mark_running();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(vs.lock().err(), Some(Refusal::Running));
                assert_eq!(vs.destroy(), Err(Refusal::Running));
            });
        });
        drop((running, state));
        assert!(vs.lock().is_ok());
    }
}
