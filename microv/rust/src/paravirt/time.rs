//! The paravirtual clock: [`Vm::clock`](crate::object::Vm::clock) as a function of the guest's
//! time-stamp counter, told to the guest.

use std::sync::atomic::Ordering;

use cpu_engine::{Vcpu, host_tsc_khz};
use cpu_paravirt::clock::{self, Scale, TimeInfo, WallClock};
use cpu_paravirt::msr;

use super::Paravirt;
use super::memory::Structure;
use crate::clock::Moment;

/// The counter of a guest that is scaled is not the host's to the last bit: its clock and
/// [`crate::clock::Clock`] part by less than a nanosecond in this time, and begin anew together.
const SCALED_BASE_NS: u64 = 1_000_000_000;

/// What the structure in guest memory was computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    clock_changes: u64,
    tsc_offset: u64,
    tsc_khz: u32,
}

impl Paravirt {
    /// Tells the guest of its clock, if it has one that has changed. Before the guest runs.
    pub fn publish_clock(&mut self, vcpu: &Vcpu) {
        self.hyperv.publish_time(vcpu);
        if !self.has_clock() {
            return;
        }
        let tsc_khz = vcpu.tsc_clock().real_khz();
        if tsc_khz != host_tsc_khz() {
            self.vm.renew_clock_base(SCALED_BASE_NS);
        }
        let clock_changes = self.vm.clock_changes();
        let now = Published { clock_changes, tsc_offset: vcpu.tsc_offset(), tsc_khz };
        if self.published == Some(now) && !self.was_stopped {
            return;
        }
        let gpa = self.system_time & !msr::ENABLED;
        if let Some(memory) = Structure::at(&self.vm.memory.normal, gpa, TimeInfo::SIZE) {
            self.write_clock(vcpu, tsc_khz, &memory);
            self.published = Some(now);
            self.was_stopped = false;
        }
    }

    fn write_clock(&self, vcpu: &Vcpu, tsc_khz: u32, memory: &Structure) {
        let (base_tsc, base_ns) = self.vm.clock().base();
        memory.change(0, |memory| {
            let mut flags = memory.byte(TimeInfo::FLAGS) & clock::GUEST_STOPPED;
            if self.was_stopped {
                flags |= clock::GUEST_STOPPED;
            }
            if self.vm.has_one_tsc_frequency() {
                flags |= clock::TSC_STABLE_BIT;
            }
            let info = TimeInfo {
                tsc_timestamp: vcpu.tsc_at(base_tsc),
                system_time: base_ns,
                scale: Scale::of_khz(tsc_khz),
                flags,
            };
            memory.write(TimeInfo::BODY, &info.body());
        });
    }

    /// The time-stamp counter is another one: whether all are one may have changed, too.
    pub fn note_other_counter(&self) {
        self.vm.note_clock_change();
    }

    /// Writes when the clock was 0, once. 0 is no address.
    pub(super) fn set_wall_clock(&self, gpa: u64) {
        self.vm.wall_clock.store(gpa, Ordering::Relaxed);
        if gpa == 0 {
            return;
        }
        let Some(memory) = Structure::at(&self.vm.memory.normal, gpa, WallClock::SIZE) else {
            return;
        };
        let Moment { realtime_ns, tsc } = Moment::now();
        let wall = WallClock::new(realtime_ns, self.vm.clock().at(tsc));
        memory.change(0, |memory| memory.write(WallClock::BODY, &wall.body()));
    }
}
