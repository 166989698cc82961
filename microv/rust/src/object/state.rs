//! What the one user of a VS sees and changes: the processor, and what stands beside it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cpu_chipset::lapic::{self, DeliveryMode, Destination, Message};
use cpu_defs::msr::{IA32_APIC_BASE, IA32_MCG_CAP, IA32_TSC, MCG_CMCI_P};
use cpu_defs::{Reg, cpuid_bit};
use cpu_engine::{Personality, Vcpu, supported_cpuid_as};
use cpu_paravirt::hyperv::msr as hyperv_msr;
use cpu_paravirt::msr;

use super::Vm;
use super::local_apic::{ApicModes, LocalApic, MsrRefused, hyperv_register};
use super::presence::Presence;
use crate::abi::quirk::MV_QUIRK_LINT0_OPEN;
use crate::alarm::now_ns;
use crate::clock::Clock;
use crate::hyperv::{Origin, Synic};
use crate::mp_state::MpState;
use crate::paravirt::vapic::Vapic;
use crate::paravirt::{Paravirt, platform_msrs};

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
    /// The VS is gone, and nobody may use this any more.
    pub destroyed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("mp_state", &self.mp_state).finish_non_exhaustive()
    }
}

impl State {
    /// That of a VS at power-on. The frequency counts for the first VS of a VM, others share its
    /// time-stamp counter.
    pub fn new(vm: &Arc<Vm>, presence: &Arc<Presence>, tsc_khz: u32, as_of: Personality) -> State {
        let tsc = vm.tsc(tsc_khz);
        let mut vcpu = Vcpu::new(
            Arc::clone(&vm.memory.normal),
            Arc::clone(&presence.kick),
            supported_cpuid_as(as_of),
            tsc,
        )
        .with_smm_memory(Arc::clone(&vm.memory.smm))
        .with_code_limit(Arc::clone(&vm.code_limit));
        vcpu.set_platform_msrs(platform_msrs(vm.irqchip.get().is_some()));
        let lapic = vm.irqchip.get().map(|_| {
            let apic_base = vcpu.msr(IA32_APIC_BASE).unwrap_or(0);
            let mut local = LocalApic::new(0, apic_base, presence);
            if vm.quirks() & MV_QUIRK_LINT0_OPEN == 0 {
                local.lapic.mask_lint0();
            }
            local
        });
        presence.tsc_khz.store(tsc.real_khz(), Ordering::Relaxed);
        presence.tsc_offset.store(vcpu.tsc_offset(), Ordering::Relaxed);
        presence.start.set_waits(true);
        State {
            vcpu,
            paravirt: Paravirt::new(Arc::clone(vm), Arc::clone(presence)),
            synic: Synic::new(Arc::clone(vm), Arc::clone(presence)),
            vapic: Vapic::default(),
            lapic,
            presence: Arc::clone(presence),
            mp_state: MpState::Initial,
            clock: Clock::default(),
            tsc_khz: tsc.khz(),
            written: Vec::new(),
            msr_changes: 0,
            destroyed: false,
        }
    }

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

    /// Tells others whether the processor waits to be started.
    pub fn publish_activity(&self) {
        self.presence.start.set_waits(self.mp_state.awaits_start());
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
