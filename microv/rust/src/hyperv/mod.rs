//! The interface of Hyper-V for a VS: synthetic MSRs, hypercalls, and the structures in guest memory
//! that they name.
//!
//! Hyper-V Top Level Functional Specification; where KVM differs from it, as KVM
//! (`arch/x86/kvm/hyperv.c`). The guest has it where its CPUID says "Hv#1", and all of it unless the
//! root has it held to what CPUID announces. The root is bound by neither.

mod block;
mod flush;
mod hypercall;
pub mod inhibition;
mod ipi;
mod msr;
mod partition;
mod reference_page;
mod registers;
mod runtime;
mod start;
mod stimer;
mod synic;
pub mod synic_port;
mod unhalted;
mod vp_set;
mod who;
mod wish;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cpu_chipset::lapic::{DeliveryMode, Destination, Message};
use cpu_engine::{Vcpu, Withheld};
use cpu_paravirt::hyperv::cpuid::{Announced, access, feature};
use cpu_paravirt::hyperv::msr as number;

use crate::object::Vm;
use crate::object::presence::Presence;

pub use hypercall::{Answer, CallToRoot, set_edx};
pub use msr::supported_cpuid;
pub use partition::Partition;
use runtime::Runtime;
pub use start::StartPort;
pub use synic::Synic;
use wish::Wishes;
pub use wish::{DebugWish, SynicWish, Wish};

/// In HV_X64_MSR_REENLIGHTENMENT_CONTROL: bits 7:0 are a vector, bits 63:32 a processor's number.
const REENLIGHTENMENT_ENABLED: u64 = 1 << 16;

/// Who accesses an MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// RDMSR or WRMSR.
    Guest,
    /// msr_get and msr_set.
    Root,
}

/// What one VS has of it.
#[derive(Debug)]
pub struct Hyperv {
    vm: Arc<Vm>,
    presence: Arc<Presence>,
    /// The guest may use only what its CPUID announces.
    pub enforce_cpuid: bool,
    announced: Announced,
    vp_assist_page: u64,
    /// HV_X64_MSR_NPIEP_CONFIG.
    npiep: u8,
    /// The guest has read HV_X64_MSR_GUEST_IDLE, and waits.
    idle: bool,
    runtime: Runtime,
    wishes: Wishes,
    /// A hypercall that the root has to answer.
    call: Option<CallToRoot>,
}

impl Hyperv {
    /// Nothing is in use.
    pub fn new(vm: Arc<Vm>, presence: Arc<Presence>) -> Hyperv {
        presence.vp_index.store(vm.hyperv.new_vp_index(), Ordering::Relaxed);
        Hyperv {
            vm,
            presence,
            enforce_cpuid: false,
            announced: Announced::default(),
            vp_assist_page: 0,
            npiep: 0,
            idle: false,
            runtime: Runtime::default(),
            wishes: Wishes::default(),
            call: None,
        }
    }

    /// CPUID shows something else.
    pub fn note_other_cpuid(&mut self, vcpu: &mut Vcpu) {
        self.announced = Announced::of(vcpu.cpuid());
        let has_polling = self.announced.features & feature::SINT_POLLING != 0;
        self.presence.synic.set_has_polling(has_polling);
        vcpu.withhold(self.withheld());
    }

    /// What is kept from the guest: an invariant counter where its CPUID has an MSR for that, until it has
    /// written that, and what it wants to be kept from its user code.
    pub fn withheld(&self) -> Withheld {
        let has_gate = self.announced.access & access::TSC_INVARIANT != 0;
        let invariant_tsc = has_gate.then(|| Arc::clone(&self.vm.hyperv.invariant_tsc));
        Withheld { invariant_tsc, user_stores: self.npiep }
    }

    /// The counter of the processor has another frequency. It is the one that the guest has chosen to be
    /// interrupted then, or nothing happens.
    pub fn tell_frequency(&self) {
        let control = self.vm.hyperv.shared().reenlightenment;
        let (vector, target) = (control as u8, (control >> 32) as u32);
        let is_it = self.presence.vp_index.load(Ordering::Relaxed) == target;
        let wanted = self.announced.enabled && control & REENLIGHTENMENT_ENABLED != 0;
        if let Some(irqchip) = self.vm.irqchip.get()
            && wanted
            && is_it
        {
            let (destination, mode) = (Destination::Itself, DeliveryMode::Fixed);
            let message = Message { destination, mode, vector, level: false, assert: true };
            irqchip.send_to(&self.presence, &message);
        }
    }

    /// Whether the guest may access an MSR.
    pub fn allows(&self, index: u32) -> bool {
        let announced = !self.enforce_cpuid || number::is_announced(&self.announced, index);
        self.announced.enabled && announced
    }

    /// Whether the guest's timers may send interrupts of their own.
    pub fn allows_direct_timers(&self) -> bool {
        !self.enforce_cpuid || self.announced.features & feature::DIRECT_TIMERS != 0
    }

    /// What HV_X64_MSR_VP_ASSIST_PAGE makes of the address where an end of interrupt is spared.
    pub fn eoi_assist(&self) -> u64 {
        self.assist_page().map_or(0, |page| page | number::ENABLED)
    }

    /// The page that HV_X64_MSR_VP_ASSIST_PAGE names, if it is in use.
    pub fn assist_page(&self) -> Option<u64> {
        let enabled = self.vp_assist_page & number::ENABLED != 0;
        enabled.then_some(self.vp_assist_page & !0xFFF)
    }

    /// Whether the processor waits for an interrupt that it need not take.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// It does not wait any more.
    pub fn end_idle(&mut self) {
        self.idle = false;
    }

    /// The calling thread executes the VS.
    pub fn begin_run(&mut self) {
        if self.announced.enabled {
            self.runtime.begin();
        }
    }

    /// It does no more.
    pub fn end_run(&mut self) {
        self.runtime.end();
    }

    /// Tells the guest of its reference time, if it wants to be told and that has changed. Before the
    /// guest runs.
    pub fn publish_time(&self, vcpu: &Vcpu) {
        if !self.announced.enabled {
            return;
        }
        let offset = vcpu.tsc_offset();
        if self.presence.tsc_offset.swap(offset, Ordering::Relaxed) != offset {
            // The guest has written its counter.
            self.vm.note_clock_change();
        }
        self.vm.hyperv.shared().reference.publish(&self.vm, vcpu);
    }

    /// Takes what the root has to do before the guest goes on.
    pub fn take_wish(&mut self) -> Option<Wish> {
        self.wishes.take()
    }

    /// The hypercall that has left for the root.
    pub fn call_to_root(&self) -> Option<CallToRoot> {
        self.call
    }
}
