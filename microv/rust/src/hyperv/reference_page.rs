//! HV_X64_MSR_REFERENCE_TSC: the page that tells reference time, and what HV_X64_MSR_TIME_REF_COUNT reads.
//!
//! While the page is right, the MSR is computed from it, so that the two never disagree. When the VM's
//! clock changes the page is written anew before the guest runs, unless the guest has asked for the
//! counter to be emulated: then it stays as it is until the guest takes that back.

use cpu_engine::{Vcpu, host_tsc};
use cpu_mem::PhysMap;
use cpu_paravirt::clock::Scale;
use cpu_paravirt::hyperv::msr::ENABLED;
use cpu_paravirt::hyperv::reference_time::{self as layout, ReferenceTime, next_sequence};

use super::Origin;
use crate::object::Vm;
use crate::paravirt::memory::Structure;

/// What the page is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There is none.
    #[default]
    Unset,
    /// Named by the guest, and not written yet.
    GuestChanged,
    /// Named by the root, or the clock has changed: not written since.
    HostChanged,
    /// Right.
    Set,
    /// It cannot be written, or the clock is no function of one counter. Tried again when the clock or
    /// a counter changes.
    Broken,
}

/// The MSR and its page.
#[derive(Debug, Default)]
pub struct ReferencePage {
    msr: u64,
    state: State,
    time: ReferenceTime,
    /// HV_X64_MSR_TSC_EMULATION_CONTROL.
    pub emulation_control: u64,
    /// Changes of the VM's clock that are known here.
    clock_changes: u64,
}

impl ReferencePage {
    /// HV_X64_MSR_REFERENCE_TSC.
    pub fn msr(&self) -> u64 {
        self.msr
    }

    /// Sets HV_X64_MSR_REFERENCE_TSC; the page is written before the guest runs.
    pub fn set_msr(&mut self, vm: &Vm, value: u64, origin: Origin) {
        self.msr = value;
        self.clock_changes = vm.clock_changes();
        self.state = match origin {
            _ if value & ENABLED == 0 => State::Unset,
            Origin::Guest => State::GuestChanged,
            Origin::Root => State::HostChanged,
        };
    }

    /// HV_X64_MSR_TIME_REF_COUNT, read by a processor whose counter is `tsc`.
    pub fn count(&mut self, vm: &Vm, tsc: u64) -> u64 {
        self.note_changes(vm);
        match self.state {
            State::Set => self.time.at(tsc),
            _ => vm.clock().get() / layout::TICK_NS,
        }
    }

    /// HV_X64_MSR_TIME_REF_COUNT, read by `vcpu` when the host's counter was `host_tsc`.
    pub fn count_at(&mut self, vm: &Vm, vcpu: &Vcpu, host_tsc: u64) -> u64 {
        self.note_changes(vm);
        match self.state {
            State::Set => self.time.at(vcpu.tsc_at(host_tsc)),
            _ => vm.clock().at(host_tsc) / layout::TICK_NS,
        }
    }

    /// Writes the page if it is not right.
    pub fn publish(&mut self, vm: &Vm, vcpu: &Vcpu) {
        self.note_changes(vm);
        if !matches!(self.state, State::GuestChanged | State::HostChanged) {
            return;
        }
        let written = self.write(vm, vcpu);
        self.state = if written.is_some() { State::Set } else { State::Broken };
    }

    fn note_changes(&mut self, vm: &Vm) {
        let changes = vm.clock_changes();
        let changed = std::mem::replace(&mut self.clock_changes, changes) != changes;
        if changed && matches!(self.state, State::Set | State::Broken) && !self.stays() {
            self.state = State::HostChanged;
        }
    }

    /// The guest expects what the page says to stay, for it has the counter emulated.
    fn stays(&self) -> bool {
        self.state != State::GuestChanged && self.emulation_control != 0
    }

    fn write(&mut self, vm: &Vm, vcpu: &Vcpu) -> Option<()> {
        let page = self.page(&vm.memory.normal)?;
        let sequence = page.u32(0);
        if sequence != 0 && self.stays() {
            let (scale, offset) = (page.u64(layout::BODY), page.u64(layout::BODY + 8));
            self.time = ReferenceTime { scale, offset };
            return Some(());
        }
        // Stores to guest memory keep their order: meanwhile the guest reads the MSR.
        page.write(0, &0_u32.to_le_bytes());
        // Counted from now: at the clock's own base the guest's counter may not have begun.
        let now = host_tsc();
        let scale = Scale::of_khz(vcpu.tsc_clock().real_khz());
        let time = ReferenceTime::new(vcpu.tsc_at(now), vm.clock().at(now), scale);
        self.time = time.filter(|_| vm.has_one_tsc())?;
        page.write(layout::BODY, &self.time.body());
        page.write(0, &next_sequence(sequence).to_le_bytes());
        Some(())
    }

    fn page(&self, mem: &PhysMap) -> Option<Structure> {
        Structure::at(mem, self.msr & !0xFFF, layout::SIZE)
    }
}
