//! The controllers beside a processor, as the engine asks them, and what the guest has of them in its
//! memory: that is taken over before anybody looks at the local APIC.

use std::sync::Arc;
use std::time::Instant;

use cpu_chipset::lapic::{Signals, TimerEnd};
use cpu_engine::{Arrivals, Controllers, Vcpu};
use cpu_mem::PhysMap;

use crate::alarm::{Alarm, now_ns};
use crate::hyperv::Synic;
use crate::irqchip::local::Local;
use crate::paravirt::eoi::SparedEnd;
use crate::paravirt::vapic::Vapic;

/// The controllers beside a VS, as the engine asks them.
pub struct Beside<'a> {
    /// Local APIC and devices.
    pub local: Local<'a>,
    /// Wakes the VS when its timer wants to be looked at.
    pub alarm: &'a Arc<Alarm>,
    /// What the TSC really gains.
    pub tsc_khz: u32,
    /// INIT or start-up that has come.
    pub signals: Signals,
    /// When the guest's steal time is to be looked at, at the latest.
    pub steal_look: Option<Instant>,
    /// Spares the guest the ends of interrupts.
    pub spared: SparedEnd<'a>,
    /// Where the guest has its task priority, if it is patched.
    pub vapic: &'a mut Vapic,
    /// The synthetic interrupt controller of Hyper-V's guests.
    pub synic: &'a mut Synic,
    /// Guest memory.
    pub mem: &'a PhysMap,
}

impl Controllers for Beside<'_> {
    fn look(&mut self, tsc: u64, smm: bool) -> Arrivals {
        self.end_spared();
        let cr8 = self.take_task_priority();
        self.synic.look(tsc);
        self.local.look(tsc);
        self.show_task_priority();
        self.alarm.set(self.next_look(tsc));
        let inbox = &self.local.presence.lapic.inbox;
        let arrived = if smm { inbox.take_signals_but_init() } else { inbox.take_signals() };
        self.signals.init |= arrived.init;
        self.signals.start_up = match arrived.init {
            true => arrived.start_up,
            false => arrived.start_up.or(self.signals.start_up),
        };
        let signalled = self.signals.init || self.signals.start_up.is_some();
        let leave = signalled || self.wants_steal_look();
        Arrivals { nmi: arrived.nmi, smi: arrived.smi, leave, cr8 }
    }

    fn accepts_external(&self) -> bool {
        self.local.lapic.accepts_external()
    }

    fn has_interrupt(&mut self, cr8: u8) -> bool {
        if self.local.lapic.cr8() != cr8 {
            self.local.lapic.set_cr8(cr8);
        }
        self.local.has_interrupt()
    }

    fn acknowledge(&mut self) -> Option<u8> {
        let external = self.local.has_external();
        let vector = self.local.acknowledge()?;
        if !external && self.local.presence.synic.ends_by_itself(vector) {
            self.local.lapic.end_of_interrupt();
        } else if self.spared.is_wanted()
            && !external
            && !self.local.lapic.has_requests()
            && self.local.ends_unheard(vector)
        {
            self.spared.offer();
        }
        self.show_task_priority();
        Some(vector)
    }
}

impl Beside<'_> {
    /// Makes the local APIC what the guest takes it for: it was spared an end, which it may have made.
    pub fn end_spared(&mut self) {
        if self.spared.take_back() {
            self.local.end_unheard();
        }
    }

    /// Takes over the task priority that the guest has in its memory; Some: as CR8 shows it.
    pub fn take_task_priority(&mut self) -> Option<u8> {
        let priority = self.vapic.task_priority(self.mem)?;
        self.local.lapic.set_task_priority(priority);
        Some(self.local.lapic.cr8())
    }

    /// Shows the guest in its memory what its local APIC holds.
    pub fn show_task_priority(&mut self) {
        self.vapic.show(self.mem, self.local.lapic);
    }

    /// When a timer ends, on the alarms' clock.
    fn next_look(&self, tsc: u64) -> Option<u64> {
        [self.end_of_timer(tsc), self.synic.next_look()].into_iter().flatten().min()
    }

    fn end_of_timer(&self, tsc: u64) -> Option<u64> {
        match self.local.lapic.timer_end()? {
            TimerEnd::Time(ns) => Some(ns),
            TimerEnd::Tsc(deadline) => {
                let ticks = u128::from(deadline.saturating_sub(tsc));
                let ns = (ticks * 1_000_000).div_ceil(u128::from(self.tsc_khz.max(1)));
                u64::try_from(u128::from(now_ns()) + ns).ok()
            }
        }
    }

    /// The guest's steal time is to be written.
    pub fn wants_steal_look(&self) -> bool {
        self.steal_look.is_some_and(|at| Instant::now() >= at)
    }

    /// Has the VS woken when the timer ends, which may have changed.
    pub fn rearm(&self, vcpu: &Vcpu) {
        self.alarm.set(self.next_look(vcpu.tsc()));
    }
}
