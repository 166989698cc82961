//! VS, virtual-processor state: a register file and the engine that runs it.
//!
//! The state has one user at a time. A short operation on another PP is waited for; a VS that runs is
//! not: it answers "running", and only its kick reaches it. A panic inside leaves the VS poisoned.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use cpu_chipset::lapic::{self, DeliveryMode, Destination, Message, Signals};
use cpu_defs::msr::{IA32_APIC_BASE, IA32_MCG_CAP, IA32_TSC, MCG_CMCI_P};
use cpu_defs::{Reg, cpuid_bit};
use cpu_engine::trace::Trace;
use cpu_engine::{Counters, Personality, Vcpu, supported_cpuid_as};
use cpu_paravirt::hyperv::msr as hyperv_msr;
use cpu_paravirt::msr;

use super::Vp;
use super::local_apic::{ApicModes, LocalApic, MsrRefused, hyperv_register};
use super::presence::{Presence, Present};
use super::questions::Questions;
use crate::abi::activity::MV_ACTIVITY_NO_EXIT;
use crate::abi::quirk::{MV_QUIRK_APIC_HOLE, MV_QUIRK_LINT0_OPEN};
use crate::alarm::now_ns;
use crate::beside::Beside;
use crate::clock::Clock;
use crate::hyperv::{Origin, Synic, inhibition};
use crate::irqchip::local::Local;
use crate::mp_state::MpState;
use crate::paravirt::eoi::SparedEnd;
use crate::paravirt::vapic::Vapic;
use crate::paravirt::{Paravirt, platform_msrs};
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

/// How often run came back, and with which exit.
#[derive(Debug)]
pub struct LastExit {
    count: AtomicU64,
    reason: AtomicU64,
}

impl LastExit {
    /// Run comes back with this mv_exit_reason_t. Only the user of the state calls.
    pub fn set(&self, reason: u64) {
        self.count.store(self.count() + 1, Ordering::Relaxed);
        self.reason.store(reason, Ordering::Relaxed);
    }

    /// How often it did.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// mv_exit_reason_t of the last time, or MV_ACTIVITY_NO_EXIT.
    pub fn reason(&self) -> u64 {
        self.reason.load(Ordering::Relaxed)
    }
}

impl Default for LastExit {
    fn default() -> LastExit {
        LastExit { count: AtomicU64::new(0), reason: AtomicU64::new(MV_ACTIVITY_NO_EXIT) }
    }
}

/// What the one user of a VS sees.
pub struct State {
    /// The processor.
    pub vcpu: Vcpu,
    /// mv_mp_state_t.
    pub mp_state: MpState,
    /// clock_get and clock_set.
    pub clock: Clock,
    /// The paravirtual interface.
    pub paravirt: Paravirt,
    /// The synthetic interrupt controller of Hyper-V's guests.
    pub synic: Synic,
    /// Its task priority, where the root patches the guest.
    pub vapic: Vapic,
    /// The local APIC, where the VM has interrupt controllers.
    pub lapic: Option<LocalApic>,
    presence: Arc<Presence>,
    /// TSC frequency given to the guest, in kHz.
    pub tsc_khz: u32,
    /// Pages it has written that dirty_log_take has not told.
    pub written: Vec<u64>,
    /// Changes of the VM's MSR rules that the vCPU knows of.
    pub msr_changes: u64,
    destroyed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("mp_state", &self.mp_state).finish_non_exhaustive()
    }
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
        let tsc = vp.vm.tsc(tsc_khz);
        let presence = Arc::new(Presence::of(id));
        let mut vcpu = Vcpu::new(
            Arc::clone(&vp.vm.memory.normal),
            Arc::clone(&presence.kick),
            supported_cpuid_as(personality),
            tsc,
        )
        .with_smm_memory(Arc::clone(&vp.vm.memory.smm))
        .with_code_limit(Arc::clone(&vp.vm.code_limit));
        vcpu.set_platform_msrs(platform_msrs(vp.vm.irqchip.get().is_some()));
        let lapic = vp.vm.irqchip.get().map(|_| {
            let apic_base = vcpu.msr(IA32_APIC_BASE).unwrap_or(0);
            let mut local = LocalApic::new(0, apic_base, &presence);
            if vp.vm.quirks() & MV_QUIRK_LINT0_OPEN == 0 {
                local.lapic.mask_lint0();
            }
            local
        });
        presence.tsc_khz.store(tsc.real_khz(), Ordering::Relaxed);
        presence.tsc_offset.store(vcpu.tsc_offset(), Ordering::Relaxed);
        vp.vm.add_vcpu(Arc::clone(&presence));
        let (counters, trace) = (vcpu.counters(), vcpu.trace());
        let state = State {
            vcpu,
            paravirt: Paravirt::new(Arc::clone(&vp.vm), Arc::clone(&presence)),
            synic: Synic::new(Arc::clone(&vp.vm), Arc::clone(&presence)),
            vapic: Vapic::default(),
            lapic,
            presence: Arc::clone(&presence),
            mp_state: MpState::Initial,
            clock: Clock::default(),
            tsc_khz: tsc.khz(),
            written: Vec::new(),
            msr_changes: 0,
            destroyed: false,
        };
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

impl State {
    /// An MSR, of the processor, of its local APIC or of the paravirtual interface.
    ///
    /// # Errors
    /// [`MsrRefused`]: there is none.
    pub fn msr(&self, index: u32) -> Result<u64, MsrRefused> {
        match &self.lapic {
            _ if msr::is_paravirtual(index) => Ok(self.paravirt.read(index)),
            Some(local) if hyperv_msr::is_apic(index) => {
                let register = hyperv_register(index);
                local.lapic.read_msr(register, now_ns()).map_err(|_| MsrRefused)
            }
            _ if hyperv_msr::is_synic(index) => self.synic.read(index, Origin::Root),
            _ if hyperv_msr::is_hyperv(index) => {
                self.paravirt.hyperv.read(&self.vcpu, index, Origin::Root)
            }
            Some(local) if LocalApic::has_msr(index) => local.msr(index, now_ns()),
            _ => self.vcpu.msr(index).map_err(|_| MsrRefused),
        }
    }

    /// Sets an MSR, of the processor, of its local APIC or of the paravirtual interface.
    ///
    /// # Errors
    /// [`MsrRefused`]: there is none, or it cannot hold the value.
    pub fn set_msr(&mut self, index: u32, value: u64) -> Result<(), MsrRefused> {
        match &mut self.lapic {
            _ if msr::is_paravirtual(index) => self.paravirt.set(index, value),
            _ if hyperv_msr::is_synic(index) => self.synic.write(index, value, Origin::Root, true),
            _ if hyperv_msr::is_hyperv(index) => {
                self.paravirt.set_hyperv(&mut self.vcpu, index, value)
            }
            Some(local) if LocalApic::has_msr(index) => {
                local.set_msr(index, value, ApicModes::of(&self.vcpu), &self.presence)?;
                self.vcpu.note_apic_base(local.lapic.apic_base());
                Ok(())
            }
            local => {
                self.vcpu.set_msr(index, value).map_err(|_| MsrRefused)?;
                if let (Some(local), IA32_MCG_CAP) = (local, index) {
                    local.lapic.set_cmci(value & MCG_CMCI_P != 0);
                }
                if index == IA32_TSC {
                    self.note_other_counter();
                }
                Ok(())
            }
        }
    }

    /// Has NMIs and SMIs that were sent to the local APIC wait in the processor.
    pub fn take_interrupts(&mut self) {
        let arrived = self.presence.lapic.inbox.take_interrupts();
        if arrived.nmi {
            self.vcpu.inject_nmi();
        }
        if arrived.smi {
            self.vcpu.inject_smi();
        }
    }

    /// Whether an INIT waits at the local APIC.
    pub fn has_init(&self) -> bool {
        self.lapic.is_some() && self.presence.lapic.inbox.has_init()
    }

    /// Has an INIT wait at the local APIC, or not. Nothing where there is none.
    pub fn set_init(&self, waits: bool) {
        if self.lapic.is_some() {
            self.presence.lapic.inbox.set_init(waits);
        }
    }

    /// The activity state; a HLT that ends at once is none.
    pub fn activity(&self) -> MpState {
        match self.mp_state {
            MpState::Wait if self.presence.is_unhalted() => MpState::Running,
            state => state,
        }
    }

    /// Changes the frequency of the time-stamp counter.
    pub fn set_tsc_khz(&mut self, khz: u32) {
        self.vcpu.set_tsc_khz(khz);
        let changes = std::mem::replace(&mut self.tsc_khz, khz) != khz;
        if changes {
            self.paravirt.hyperv.tell_frequency();
        }
        self.presence.tsc_khz.store(self.vcpu.tsc_clock().real_khz(), Ordering::Relaxed);
        self.note_other_counter();
    }

    /// Moves the time-stamp counter so far ahead of the host's, scaled.
    pub fn set_tsc_offset(&mut self, offset: u64) {
        self.vcpu.set_tsc_offset(offset);
        self.note_other_counter();
    }

    fn note_other_counter(&self) {
        self.presence.tsc_offset.store(self.vcpu.tsc_offset(), Ordering::Relaxed);
        self.paravirt.note_other_counter();
    }

    /// Replaces the local APIC by one after power-up with this ID; false where there is none.
    pub fn set_apic_id(&mut self, id: u32) -> bool {
        let Some(local) = &mut self.lapic else { return false };
        let masks_lint0 = local.lapic.masks_lint0();
        *local = LocalApic::new(id, local.lapic.apic_base(), &self.presence);
        if masks_lint0 {
            local.lapic.mask_lint0();
        }
        self.note_other_cpuid();
        true
    }

    /// Makes the local APIC and the interface of Hyper-V what CPUID says they are.
    pub fn note_other_cpuid(&mut self) {
        self.paravirt.hyperv.note_other_cpuid(&mut self.vcpu);
        let has = self.vcpu.announces(cpuid_bit::TSC_DEADLINE);
        if let Some(local) = &mut self.lapic {
            local.lapic.set_has_deadline_mode(has);
        }
    }

    /// The guest could take an interrupt of the root's now.
    pub fn interruptible(&self) -> bool {
        let accepted = self.lapic.as_ref().is_none_or(|local| local.lapic.accepts_external());
        accepted && self.vcpu.interruptible()
    }

    /// The registers of the local APIC, with what was sent to it until now; None where there is none.
    pub fn lapic_image(&mut self) -> Option<[u8; lapic::IMAGE_LEN]> {
        let local = self.lapic.as_mut()?;
        local.lapic.take_in(&self.presence.lapic.inbox);
        Some(local.lapic.image(now_ns()))
    }

    /// A source of the local vector table is active; false where there is no local APIC.
    pub fn raise_local(&mut self, lvt: u8) -> bool {
        let Some(local) = &self.lapic else { return false };
        if let Some(message) = local.lapic.local_message(lvt) {
            self.presence.lapic.inbox.post(&message);
            self.presence.notify();
        }
        true
    }

    /// Lets a start-up come to the local APIC.
    pub fn start_up(&self, vector: u8) {
        let (destination, mode) = (Destination::Itself, DeliveryMode::StartUp);
        let message = Message { destination, mode, vector, level: false, assert: true };
        self.presence.lapic.inbox.post(&message);
    }

    /// Restores the registers of the local APIC; false where there is none.
    pub fn restore_lapic(&mut self, image: &[u8; lapic::IMAGE_LEN]) -> bool {
        let Some(local) = &mut self.lapic else { return false };
        // What was sent before is overwritten.
        local.lapic.take_in(&self.presence.lapic.inbox);
        local.lapic.restore(image, now_ns());
        self.presence.lapic.publish(&local.lapic.address(), local.lapic.accepts_external());
        self.presence.notify();
        // CR8 takes any value of four bits.
        let taken = self.vcpu.set_reg(Reg::Cr8, LocalApic::cr8_of(image));
        debug_assert!(taken.is_ok());
        true
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
