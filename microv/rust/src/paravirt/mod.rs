//! The paravirtual interface of a VS: its MSRs, and the structures in guest memory that they name.
//!
//! Linux, `Documentation/virt/kvm/x86/msr.rst`. Accesses of the guest come here from the run loop
//! ([`Paravirt::handle`]), those of the root from msr_get and msr_set. The root is bound neither by
//! what CPUID announces nor by MSR filters. Memory that is not there is not written, and nobody is
//! told, as in KVM.

mod async_pf;
pub mod eoi;
mod hypercall;
pub mod memory;
pub mod steal;
mod time;
pub mod vapic;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cpu_defs::msr::{IA32_TSC, IA32_TSC_ADJUST};
use cpu_defs::{Reg, cr0};
use cpu_engine::{Exit, HypercallAnswer, MsrAnswer, MsrExit, MsrReason, PlatformMsrs, Vcpu};
use cpu_paravirt::hyperv::msr as hyperv_msr;
use cpu_paravirt::{features, msr};

use crate::hyperv::{Answer, Hyperv, Origin, set_edx};
use crate::object::Vm;
use crate::object::local_apic::MsrRefused;
use crate::object::presence::Presence;
use crate::processor::{self, Stopped};
use async_pf::AsyncPf;
use memory::Structure;
use steal::Waits;
use time::Published;

/// The paravirtual interface of one VS.
#[derive(Debug)]
pub struct Paravirt {
    vm: Arc<Vm>,
    /// The interface of Hyper-V.
    pub hyperv: Hyperv,
    local_apic: bool,
    /// The guest may use only what its CPUID announces.
    pub enforce_cpuid: bool,
    /// The root had stopped the guest, which is to be told.
    pub was_stopped: bool,
    system_time: u64,
    poll_control: u64,
    async_pf: AsyncPf,
    steal_time: u64,
    waits: Waits,
    pv_eoi: u64,
    /// What the guest's structure of the clock says; None: nothing yet.
    published: Option<Published>,
}

/// The MSRs for which a VS leaves the interpreter: those of the paravirtual interface, the counter
/// that its clock is computed from, and those of a local APIC.
#[must_use]
pub fn platform_msrs(local_apic: bool) -> PlatformMsrs {
    let counter = [IA32_TSC..=IA32_TSC, IA32_TSC_ADJUST..=IA32_TSC_ADJUST];
    let lapic = processor::platform_msrs().into_iter().filter(|_| local_apic);
    let ours = msr::RANGES.into_iter().chain(hyperv_msr::RANGES);
    ours.chain(counter).chain(lapic).collect()
}

impl Paravirt {
    /// Nothing is in use.
    pub fn new(vm: Arc<Vm>, presence: Arc<Presence>) -> Paravirt {
        Paravirt {
            hyperv: Hyperv::new(Arc::clone(&vm), presence),
            local_apic: vm.irqchip.get().is_some(),
            vm,
            enforce_cpuid: false,
            was_stopped: false,
            system_time: 0,
            poll_control: 1,
            async_pf: AsyncPf::default(),
            steal_time: 0,
            waits: Waits::default(),
            pv_eoi: 0,
            published: None,
        }
    }

    /// INIT: the guest has told nothing yet.
    pub fn init(&mut self) {
        self.system_time = 0;
        self.published = None;
        self.steal_time = 0;
        self.pv_eoi = 0;
        self.async_pf = AsyncPf::default();
    }

    /// MSR_KVM_PV_EOI_EN.
    pub fn pv_eoi(&self) -> u64 {
        self.pv_eoi
    }

    /// Whether the guest is to be told something of its pages.
    pub fn has_page_news(&self) -> bool {
        self.async_pf.waits()
    }

    /// Tells the guest what there is of its pages: the vector of the interrupt that does. `open`: its
    /// local APIC is enabled.
    pub fn tell_page_news(&mut self, vcpu: &Vcpu, open: bool) -> Option<u8> {
        let paging = vcpu.reg(Reg::Cr0) & cr0::PG != 0;
        self.async_pf.tell(&self.vm.memory.normal, paging, open)
    }

    /// The guest has a clock.
    pub fn has_clock(&self) -> bool {
        self.system_time & msr::ENABLED != 0
    }

    /// Where it is used: the guest executes `vcpu` until the root has something to do.
    pub fn run(&mut self, vcpu: &mut Vcpu, window: bool) -> Stopped {
        loop {
            if let Some(wish) = self.hyperv.take_wish() {
                return Stopped::Hyperv(wish);
            }
            if let Some(exit) = self.hyperv.sit_out_suspension(vcpu) {
                return Stopped::Exit(exit);
            }
            let mut exit = vcpu.run(window);
            loop {
                match self.handle(vcpu, exit) {
                    Err(other) => return Stopped::Exit(other),
                    Ok(None) => break,
                    Ok(Some(next)) => exit = next,
                }
            }
        }
    }

    /// Carries out what the guest asks of this interface: the exit that follows, if one does.
    ///
    /// # Errors
    /// The exit concerns somebody else.
    #[allow(clippy::result_large_err, reason = "one exit lives on the stack at a time")]
    pub fn handle(&mut self, vcpu: &mut Vcpu, exit: Exit) -> Result<Option<Exit>, Exit> {
        match exit {
            Exit::Msr(access) if self.is_elsewhere(&access) => Err(exit),
            Exit::Msr(access) if is_ours(&access) => {
                let answer = self.answer(vcpu, &access);
                let next = vcpu.complete_msr(answer);
                self.publish_clock(vcpu);
                Ok(next)
            }
            Exit::Hypercall(call) if self.hyperv.takes_calls() => {
                match self.hyperv.call(vcpu, &call) {
                    Answer::Result(result) => {
                        if !call.long {
                            set_edx(vcpu, result);
                        }
                        Ok(vcpu.complete(&result.to_le_bytes()))
                    }
                    Answer::Undefined => Ok(vcpu.complete_hypercall(HypercallAnswer::Undefined)),
                    Answer::Root => Err(exit),
                    Answer::Suspended => {
                        vcpu.abandon_unfinished();
                        Ok(None)
                    }
                }
            }
            Exit::Hypercall(call) => {
                let answer = self.call(vcpu, &call).ok_or(exit)?;
                Ok(vcpu.complete(&answer.to_le_bytes()))
            }
            other => Err(other),
        }
    }

    fn answer(&mut self, vcpu: &mut Vcpu, access: &MsrExit) -> MsrAnswer {
        let index = access.index;
        if hyperv_msr::is_hyperv(index) {
            let answer = self.hyperv.answer(vcpu, access);
            self.note_written(vcpu, index);
            return answer;
        }
        if !msr::is_paravirtual(index) {
            return MsrAnswer::Own;
        }
        let allowed = self.allowed(vcpu);
        if allowed & msr::feature(index) == 0 {
            return MsrAnswer::Refused;
        }
        match access.value {
            None => MsrAnswer::Value(self.read(index)),
            Some(value) => match self.write(index, value, allowed) {
                Ok(()) => MsrAnswer::Value(0),
                Err(MsrRefused) => MsrAnswer::Refused,
            },
        }
    }

    /// A controller beside the processor, which is there, answers.
    fn is_elsewhere(&self, access: &MsrExit) -> bool {
        let index = access.index;
        let beside = hyperv_msr::is_apic(index) || hyperv_msr::is_synic(index);
        access.reason == MsrReason::Platform
            && beside
            && self.local_apic
            && self.hyperv.allows(index)
    }

    /// Sets an MSR of Hyper-V for the root.
    ///
    /// # Errors
    /// [`MsrRefused`]: there is none, or it cannot have the value.
    pub fn set_hyperv(
        &mut self,
        vcpu: &mut Vcpu,
        index: u32,
        value: u64,
    ) -> Result<(), MsrRefused> {
        self.hyperv.write(vcpu, index, value, Origin::Root)?;
        self.note_written(vcpu, index);
        Ok(())
    }

    /// Hyper-V's guests are spared ends of interrupts as KVM's are: of the two the last one counts.
    fn note_written(&mut self, vcpu: &mut Vcpu, index: u32) {
        match index {
            hyperv_msr::VP_ASSIST_PAGE => self.pv_eoi = self.hyperv.eoi_assist(),
            hyperv_msr::NPIEP_CONFIG => vcpu.withhold(self.hyperv.withheld()),
            _ => {}
        }
    }

    /// Features that the guest may use.
    fn allowed(&self, vcpu: &Vcpu) -> u32 {
        if self.enforce_cpuid { features::announced(vcpu.cpuid()) } else { u32::MAX }
    }

    /// An MSR of [`msr::all`].
    pub fn read(&self, index: u32) -> u64 {
        match index {
            msr::WALL_CLOCK | msr::WALL_CLOCK_NEW => self.vm.wall_clock.load(Ordering::Relaxed),
            msr::SYSTEM_TIME | msr::SYSTEM_TIME_NEW => self.system_time,
            msr::ASYNC_PF_EN => self.async_pf.enable(),
            msr::ASYNC_PF_INT => self.async_pf.interrupt(),
            msr::STEAL_TIME => self.steal_time,
            msr::PV_EOI_EN => self.pv_eoi,
            msr::POLL_CONTROL => self.poll_control,
            _ => 0,
        }
    }

    /// Sets an MSR of [`msr::all`] for the root.
    ///
    /// # Errors
    /// [`MsrRefused`]: it cannot have the value.
    pub fn set(&mut self, index: u32, value: u64) -> Result<(), MsrRefused> {
        self.write(index, value, u32::MAX)
    }

    fn write(&mut self, index: u32, value: u64, allowed: u32) -> Result<(), MsrRefused> {
        if !msr::is_legal(index, value, allowed, self.local_apic) {
            return Err(MsrRefused);
        }
        match index {
            msr::WALL_CLOCK | msr::WALL_CLOCK_NEW => self.set_wall_clock(value),
            msr::SYSTEM_TIME | msr::SYSTEM_TIME_NEW => {
                self.system_time = value;
                self.published = None;
            }
            msr::ASYNC_PF_EN => self.async_pf.set_enable(&self.vm.memory.normal, value)?,
            msr::ASYNC_PF_INT => self.async_pf.set_interrupt(value),
            msr::ASYNC_PF_ACK => self.async_pf.acknowledge(value),
            msr::STEAL_TIME => {
                self.steal_time = value;
                self.waits.begin();
            }
            msr::PV_EOI_EN => self.set_pv_eoi(value)?,
            msr::POLL_CONTROL => self.poll_control = value,
            _ => {}
        }
        Ok(())
    }
}

impl Paravirt {
    fn set_pv_eoi(&mut self, value: u64) -> Result<(), MsrRefused> {
        let (enabled, gpa) = (value & msr::ENABLED != 0, value & !msr::ENABLED);
        if enabled && !Structure::exists(&self.vm.memory.normal, gpa, size_of::<u8>()) {
            return Err(MsrRefused);
        }
        self.pv_eoi = value;
        Ok(())
    }
}

/// Whether an MSR access leaves for this interface.
fn is_ours(access: &MsrExit) -> bool {
    let counter = matches!(access.index, IA32_TSC | IA32_TSC_ADJUST);
    let index = access.index;
    let ours = counter || msr::is_paravirtual(index) || hyperv_msr::is_hyperv(index);
    access.reason == MsrReason::Platform && ours
}
