//! A VS whose VM has interrupt controllers: it executes, sleeps, is reset and started by messages,
//! and reaches its controllers, without leaving to the root.
//!
//! SDM volume 3, "MP Initialization Protocol" (INIT, start-up), "HLT".

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

use cpu_chipset::lapic::register::{self, base};
use cpu_chipset::lapic::{
    DeliveryMode, Destination, Message, Refused, apic_base_transition_is_legal,
};
use cpu_defs::msr::{EFER, IA32_APIC_BASE, IA32_PAT};
use cpu_defs::{Reg, SegField, SegReg};
use cpu_engine::trace::Event;
use cpu_engine::{
    Controllers, Exit, Halted, IoDirection, IoExit, MmioExit, MsrAnswer, MsrExit, MsrReason, Vcpu,
};

use cpu_paravirt::hyperv::msr as hyperv_msr;
use cpu_paravirt::hyperv::vp_context::VpContext;

use crate::abi::activity::{
    MV_ACTIVITY_HALTED, MV_ACTIVITY_RUNNING, MV_ACTIVITY_WAIT_FOR_INIT, MV_ACTIVITY_WAIT_FOR_SIPI,
};
use crate::beside::Beside;
use crate::hyperv;
use crate::irqchip::local::Access;
use crate::mp_state::MpState;
use crate::object::local_apic::{
    ApicModes, IA32_TSC_DEADLINE, MsrRefused, X2APIC_MSRS, hyperv_register,
};
use crate::paravirt::Paravirt;
use crate::paravirt::vapic::TprAccess;

/// MSRs that the local APIC answers for.
#[must_use]
pub fn platform_msrs() -> [RangeInclusive<u32>; 3] {
    [IA32_APIC_BASE..=IA32_APIC_BASE, IA32_TSC_DEADLINE..=IA32_TSC_DEADLINE, X2APIC_MSRS]
}

/// Why the processor stopped.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one exit lives on the stack at a time")]
pub enum Stopped {
    /// The root has something to do.
    Exit(Exit),
    /// An interrupt with this vector ended, for which the root's I/O APIC waits.
    Ended(u8),
    /// The guest wants something of the root, by Hyper-V's interface.
    Hyperv(hyperv::Wish),
    /// The guest has accessed the task-priority register, which the root wants to know.
    TaskPriority(TprAccess),
}

/// A VS and its controllers.
pub struct Processor<'a> {
    /// The processor.
    pub vcpu: &'a mut Vcpu,
    /// What it waits for.
    pub mp_state: &'a mut MpState,
    /// Its paravirtual interface.
    pub paravirt: &'a mut Paravirt,
    /// Its controllers.
    pub beside: Beside<'a>,
}

impl Processor<'_> {
    /// Executes until the root has something to do. `window`: also as soon as the guest could take
    /// an interrupt of the root's.
    pub fn run(&mut self, window: bool) -> Stopped {
        self.beside.synic.go_on();
        let stopped = self.run_inside(window);
        self.beside.synic.pause();
        self.beside.vapic.leave();
        stopped
    }

    fn run_inside(&mut self, window: bool) -> Stopped {
        loop {
            if let Some(access) = self.beside.vapic.take_access() {
                return Stopped::TaskPriority(access);
            }
            if let Some(wish) = self.take_wish() {
                return Stopped::Hyperv(wish);
            }
            if let Some(exit) = self.paravirt.hyperv.sit_out_suspension(self.vcpu) {
                return Stopped::Exit(exit);
            }
            if let Some(exit) = self.wait(window) {
                return Stopped::Exit(exit);
            }
            *self.mp_state = MpState::Running;
            self.tell_page_news();
            self.show_task_priority();
            let exit = self.vcpu.run_with(window, &mut self.beside);
            match self.handle(exit) {
                Handled::Inside if self.beside.local.irqchip.has_ended() => {
                    // What has arrived is out of the inbox already.
                    self.take_signals();
                    return Stopped::Exit(Exit::Interrupted);
                }
                Handled::Inside => {}
                Handled::Ended(vector) => return Stopped::Ended(vector),
                Handled::Leaves(exit) => return Stopped::Exit(exit),
            }
        }
    }

    fn take_wish(&mut self) -> Option<hyperv::Wish> {
        self.paravirt.hyperv.take_wish().or_else(|| self.beside.synic.take_wish())
    }

    /// Takes INIT, start-up and NMI that have come, without executing.
    pub fn accept_signals(&mut self) {
        self.vcpu.look_at(&mut self.beside);
        self.take_signals();
    }

    /// Sleeps while the processor is halted or waits to be started. Some: it was asked to leave, or
    /// `window` and it could take an interrupt of the root's.
    fn wait(&mut self, window: bool) -> Option<Exit> {
        let presence = self.beside.local.presence;
        let mut slept = None;
        loop {
            self.take_signals();
            let halted = match *self.mp_state {
                MpState::Wait if self.beside.local.presence.take_unhalted() => Halted::Woken,
                MpState::Wait if self.has_page_news() => Halted::Woken,
                MpState::Wait => match self.vcpu.poll_halted(&mut self.beside) {
                    Halted::Asleep if self.ends_idle() => Halted::Woken,
                    other => other,
                },
                MpState::Initial | MpState::Init => match self.vcpu.poll_halted(&mut self.beside) {
                    // Only INIT and start-up wake it, which are reasons to leave the poll.
                    Halted::Woken => Halted::Asleep,
                    other => other,
                },
                _ => Halted::Woken,
            };
            match halted {
                Halted::Woken => {
                    self.paravirt.hyperv.end_idle();
                    if slept.is_some() {
                        self.beside.synic.go_on();
                        self.paravirt.end_preemption(self.vcpu);
                    }
                    return None;
                }
                Halted::Arrived => self.look_at_steal_time(),
                Halted::Left => return Some(Exit::Interrupted),
                Halted::Paused => return Some(Exit::Paused),
                Halted::Asleep if window && self.has_window() => {
                    return Some(Exit::InterruptWindow);
                }
                Halted::Asleep => {
                    if self.paravirt.begin_preemption() {
                        presence.sleep_counts.add_preemption();
                    }
                    let halted = *self.mp_state == MpState::Wait;
                    slept.get_or_insert_with(|| presence.sleep_counts.begin(halted));
                    self.beside.synic.pause();
                    self.sleep();
                }
            }
        }
    }

    fn show_task_priority(&mut self) {
        if self.beside.vapic.is_placed() {
            let cr8 = self.vcpu.reg(Reg::Cr8) as u8;
            if self.beside.local.lapic.cr8() != cr8 {
                self.beside.local.lapic.set_cr8(cr8);
            }
            self.beside.show_task_priority();
        }
    }

    /// Whether there is an interrupt for a guest that has read HV_X64_MSR_GUEST_IDLE.
    fn ends_idle(&mut self) -> bool {
        let cr8 = self.vcpu.reg(Reg::Cr8) as u8;
        self.paravirt.hyperv.is_idle() && self.beside.has_interrupt(cr8)
    }

    /// Whether HLT ends for what the guest is to be told of its pages. With its local APIC disabled it
    /// cannot be told, and would never sleep.
    fn has_page_news(&self) -> bool {
        self.paravirt.has_page_news() && self.beside.local.lapic.software_enabled()
    }

    fn tell_page_news(&mut self) {
        let open = self.beside.local.lapic.software_enabled();
        if let Some(vector) = self.paravirt.tell_page_news(self.vcpu, open) {
            let (destination, mode) = (Destination::Itself, DeliveryMode::Fixed);
            let message = Message { destination, mode, vector, level: false, assert: true };
            self.beside.local.presence.lapic.inbox.post(&message);
        }
    }

    fn sleep(&self) {
        let presence = self.beside.local.presence;
        let activity = match *self.mp_state {
            MpState::Initial => MV_ACTIVITY_WAIT_FOR_INIT,
            MpState::Init => MV_ACTIVITY_WAIT_FOR_SIPI,
            _ => MV_ACTIVITY_HALTED,
        };
        presence.activity.store(activity, Ordering::Relaxed);
        presence.sleep();
        presence.activity.store(MV_ACTIVITY_RUNNING, Ordering::Relaxed);
    }

    fn has_window(&self) -> bool {
        self.vcpu.interruptible() && self.beside.accepts_external()
    }

    /// Writes the guest's steal time if that is due.
    fn look_at_steal_time(&mut self) {
        if self.beside.wants_steal_look() {
            self.paravirt.end_preemption(self.vcpu);
            self.beside.steal_look = self.paravirt.next_look();
        }
    }

    /// INIT resets, and an application processor waits for its start-up then.
    fn take_signals(&mut self) {
        if std::mem::take(&mut self.beside.signals.init) {
            self.vcpu.trace_event(Event::Init, 0, None);
            self.reset();
            let is_boot = self.beside.local.lapic.apic_base() & base::BSP != 0;
            *self.mp_state = if is_boot { MpState::Running } else { MpState::Init };
        }
        if let Some(vector) = self.beside.signals.start_up.take()
            && *self.mp_state == MpState::Init
        {
            self.vcpu.trace_event(Event::StartUp, vector, None);
            self.start_at(vector);
            *self.mp_state = MpState::Running;
        }
        if let Some(context) = self.beside.local.presence.start.take()
            && self.mp_state.awaits_start()
        {
            self.vcpu.trace_event(Event::StartUp, 0, None);
            self.reset();
            self.start_with(&context);
            *self.mp_state = MpState::Running;
        }
        self.beside.local.presence.start.set_waits(self.mp_state.awaits_start());
    }

    fn reset(&mut self) {
        self.vcpu.init_reset();
        self.beside.local.lapic.init();
        self.beside.vapic.init();
        self.paravirt.init();
        self.beside.spared.set_msr(self.paravirt.pv_eoi());
        self.beside.local.publish();
    }

    /// Start by a hypercall, which has looked whether a processor can have these registers; what this one
    /// cannot have, as its CPUID is another, it has not.
    fn start_with(&mut self, context: &VpContext) {
        for (index, value) in [(EFER, context.efer), (IA32_PAT, context.pat)] {
            let _ = self.vcpu.set_msr(index, value);
        }
        for &(reg, value) in &context.registers {
            let _ = self.vcpu.set_reg(reg, value);
        }
    }

    /// Start-up: real mode at the page `vector`.
    fn start_at(&mut self, vector: u8) {
        let segment = |field| Reg::Segment(SegReg::Cs, field);
        for (reg, value) in [
            (segment(SegField::Selector), u64::from(vector) << 8),
            (segment(SegField::Base), u64::from(vector) << 12),
            (Reg::Rip, 0),
        ] {
            // Every processor takes these values.
            let taken = self.vcpu.set_reg(reg, value);
            debug_assert!(taken.is_ok());
        }
    }

    fn handle(&mut self, exit: Exit) -> Handled {
        self.beside.end_spared();
        if let Some(cr8) = self.beside.take_task_priority() {
            self.set_cr8(cr8);
        }
        let answered = self.paravirt.handle(self.vcpu, exit);
        self.beside.spared.set_msr(self.paravirt.pv_eoi());
        self.beside.synic.note_assist_page(self.paravirt.hyperv.assist_page());
        let exit = match answered {
            Ok(None) => {
                if self.paravirt.hyperv.is_idle() {
                    *self.mp_state = MpState::Wait;
                }
                return Handled::Inside;
            }
            Ok(Some(next)) => return self.handle(next),
            Err(other) => other,
        };
        match exit {
            Exit::Hlt => {
                *self.mp_state = MpState::Wait;
                Handled::Inside
            }
            Exit::Arrived => {
                self.look_at_steal_time();
                Handled::Inside
            }
            Exit::Mmio(access) => self.memory(access),
            Exit::Io(access) => self.port(access),
            Exit::Msr(access) if access.reason == MsrReason::Platform => self.msr(access),
            other => Handled::Leaves(other),
        }
    }

    fn memory(&mut self, access: MmioExit) -> Handled {
        let len = usize::from(access.len);
        let write = access.write;
        if self.beside.vapic.tells() && self.beside.local.is_task_priority(access.gpa, len, write) {
            self.beside.vapic.note(TprAccess { rip: self.vcpu.accessing_rip(), write });
        }
        if !access.write {
            let mut bytes = [0; 8];
            if !self.beside.local.read_memory(access.gpa, &mut bytes[..len]) {
                return Handled::Leaves(Exit::Mmio(access));
            }
            return self.complete(&bytes[..len]);
        }
        match self.beside.local.write_memory(access.gpa, &access.data[..len]) {
            Access::Elsewhere => Handled::Leaves(Exit::Mmio(access)),
            Access::Done => self.after_write(None),
            Access::Ended(vector) => self.after_write(Some(vector)),
        }
    }

    fn port(&mut self, access: IoExit) -> Handled {
        let size = usize::from(access.size);
        if access.dir == IoDirection::In {
            let mut data = vec![0; size * access.count as usize];
            for element in data.chunks_mut(size) {
                if !self.beside.local.read_port(access.port, element) {
                    return Handled::Leaves(Exit::Io(access));
                }
            }
            return self.complete(&data);
        }
        match self.beside.local.write_port(access.port, &access.data[..size]) {
            Access::Elsewhere => Handled::Leaves(Exit::Io(access)),
            Access::Done => self.after_write(None),
            Access::Ended(vector) => self.after_write(Some(vector)),
        }
    }

    /// The write may have changed the task priority or the timer.
    fn after_write(&mut self, ended: Option<u8>) -> Handled {
        self.set_cr8(self.beside.local.lapic.cr8());
        self.beside.show_task_priority();
        self.beside.rearm(self.vcpu);
        match (self.vcpu.complete(&[]), ended) {
            // No register of a local APIC crosses a page, so the end is never lost here.
            (Some(exit), _) => self.handle(exit),
            (None, Some(vector)) => Handled::Ended(vector),
            (None, None) => Handled::Inside,
        }
    }

    fn set_cr8(&mut self, cr8: u8) {
        // CR8 takes any value of four bits.
        let taken = self.vcpu.set_reg(Reg::Cr8, cr8.into());
        debug_assert!(taken.is_ok());
    }

    fn complete(&mut self, data: &[u8]) -> Handled {
        match self.vcpu.complete(data) {
            Some(exit) => self.handle(exit),
            None => Handled::Inside,
        }
    }

    fn msr(&mut self, access: MsrExit) -> Handled {
        let mut ended = None;
        let answer = match access.value {
            None => self.read_msr(access.index),
            Some(value) => self.write_msr(access.index, value).map(|done| {
                if let Access::Ended(vector) = done {
                    ended = Some(vector);
                }
                0
            }),
        };
        let x2apic_tpr = X2APIC_MSRS.start() + u32::from(register::TPR);
        let is_tpr = [x2apic_tpr, hyperv_msr::TPR].contains(&access.index);
        if is_tpr && answer.is_ok() {
            self.set_cr8(self.beside.local.lapic.cr8());
            self.beside.show_task_priority();
            if self.beside.vapic.tells() {
                let rip = self.vcpu.accessing_rip();
                self.beside.vapic.note(TprAccess { rip, write: access.value.is_some() });
            }
        }
        self.beside.rearm(self.vcpu);
        let answer = answer.map_or(MsrAnswer::Refused, MsrAnswer::Value);
        match (self.vcpu.complete_msr(answer), ended) {
            (Some(exit), _) => self.handle(exit),
            (None, Some(vector)) => Handled::Ended(vector),
            (None, None) => Handled::Inside,
        }
    }

    /// An MSR of the local APIC.
    pub fn read_msr(&mut self, index: u32) -> Result<u64, Refused> {
        let lapic = &self.beside.local.lapic;
        match index {
            IA32_APIC_BASE => Ok(lapic.apic_base()),
            IA32_TSC_DEADLINE => Ok(lapic.tsc_deadline()),
            _ if hyperv_msr::is_synic(index) => {
                self.beside.synic.read(index, hyperv::Origin::Guest).map_err(|MsrRefused| Refused)
            }
            _ if hyperv_msr::is_apic(index) => {
                self.beside.local.read_register(hyperv_register(index))
            }
            _ => self.beside.local.read_msr(index),
        }
    }

    fn write_msr(&mut self, index: u32, value: u64) -> Result<Access, Refused> {
        match index {
            IA32_APIC_BASE => {
                let old = self.beside.local.lapic.apic_base();
                let exists = ApicModes::of(self.vcpu).have(value);
                if !exists || !apic_base_transition_is_legal(old, value) {
                    return Err(Refused);
                }
                self.beside.local.lapic.set_apic_base(value);
                self.vcpu.note_apic_base(value);
                self.beside.local.publish();
            }
            IA32_TSC_DEADLINE => self.beside.local.lapic.set_tsc_deadline(value),
            _ if hyperv_msr::is_synic(index) => {
                let direct = self.paravirt.hyperv.allows_direct_timers();
                let written = self.beside.synic.write(index, value, hyperv::Origin::Guest, direct);
                written.map_err(|MsrRefused| Refused)?;
            }
            _ if hyperv_msr::is_apic(index) => {
                return self.beside.local.write_register(hyperv_register(index), value);
            }
            _ => return self.beside.local.write_msr(index, value),
        }
        Ok(Access::Done)
    }
}

/// What became of an exit.
#[allow(clippy::large_enum_variant, reason = "one exit lives on the stack at a time")]
enum Handled {
    /// The guest goes on.
    Inside,
    /// So it does, but the root wants to hear of the end of this vector.
    Ended(u8),
    /// It is the root's.
    Leaves(Exit),
}
