//! The synthetic interrupt controller of a VS and its timers: MSRs, messages, and interrupts of its local
//! APIC. TLFS, "Virtual Interrupt Controller".
//!
//! Exists where the root has activated it, which needs a local APIC; but for the timer of unhalted
//! time, which has no messages. Messages and events of other partitions are the root's, which is
//! told where their pages are.

use std::ops::RangeInclusive;
use std::sync::Arc;

use cpu_chipset::lapic::{DeliveryMode, Destination, Message};
use cpu_paravirt::hyperv::msr as number;
use cpu_paravirt::hyperv::msr::ENABLED;
use cpu_paravirt::hyperv::synic::{self as layout, TimerConfig};

use super::Origin;
use super::stimer::{Now, Timer};
use super::unhalted::{Interrupt, UnhaltedTimer};
use super::wish::{SynicWish, Wish};
use crate::alarm::now_ns;
use crate::object::Vm;
use crate::object::local_apic::MsrRefused;
use crate::object::presence::Presence;
use crate::paravirt::memory::{self, Structure};

const PAGE: u64 = !0xFFF;
const UNHALTED_TIMER: RangeInclusive<u32> =
    number::UNHALTED_TIMER_CONFIG..=number::UNHALTED_TIMER_COUNT;
const ALL_SINTS: u32 = (1 << layout::SINTS) - 1;

/// The controller.
#[derive(Debug)]
pub struct Synic {
    vm: Arc<Vm>,
    presence: Arc<Presence>,
    /// Pages are the guest's from the start: they are not cleared when they are named.
    keeps_pages: bool,
    control: u64,
    version: u64,
    event_page: u64,
    message_page: u64,
    timers: [Timer; layout::TIMERS],
    unhalted: UnhaltedTimer,
    /// The page where the guest is told that the timer of unhalted time has expired.
    assist_page: Option<u64>,
    wish: Option<Wish>,
}

impl Synic {
    /// A controller that is not active.
    pub fn new(vm: Arc<Vm>, presence: Arc<Presence>) -> Synic {
        Synic {
            vm,
            presence,
            keeps_pages: false,
            control: 0,
            version: layout::VERSION,
            event_page: 0,
            message_page: 0,
            timers: Default::default(),
            unhalted: UnhaltedTimer::default(),
            assist_page: None,
            wish: None,
        }
    }

    /// Activates it. `keeps_pages`: see there.
    pub fn activate(&mut self, keeps_pages: bool) {
        self.presence.synic.activate();
        self.keeps_pages = keeps_pages;
        self.control = layout::CONTROL_ENABLED;
    }

    /// The page that HV_X64_MSR_VP_ASSIST_PAGE names.
    pub fn note_assist_page(&mut self, page: Option<u64>) {
        self.assist_page = page;
    }

    /// The processor executes.
    pub fn go_on(&mut self) {
        if self.unhalted.is_on() {
            self.unhalted.go_on(now_ns());
            self.presence.kick.look();
        }
    }

    /// It does no more.
    pub fn pause(&mut self) {
        if self.unhalted.is_on() {
            self.unhalted.pause(now_ns());
        }
    }

    /// Takes what the root has to know before the guest goes on.
    pub fn take_wish(&mut self) -> Option<Wish> {
        self.wish.take()
    }

    /// Reads an MSR.
    ///
    /// # Errors
    /// [`MsrRefused`]: it does not exist, or, for the guest, there is no controller.
    pub fn read(&self, index: u32, origin: Origin) -> Result<u64, MsrRefused> {
        if origin == Origin::Guest && !self.presence.synic.is_active() && !number::is_timer(index) {
            return Err(MsrRefused);
        }
        Ok(match index {
            number::SCONTROL => self.control,
            number::SVERSION => self.version,
            number::SIEFP => self.event_page,
            number::SIMP => self.message_page,
            number::EOM => 0,
            number::SINT0..=number::SINT15 => self.presence.synic.sint(sint_of(index)),
            number::STIMER0_CONFIG..=number::STIMER3_COUNT => match timer_of(index) {
                (timer, Field::Config) => self.timers[timer].config().0,
                (timer, Field::Count) => self.timers[timer].count(),
            },
            number::UNHALTED_TIMER_CONFIG => self.unhalted.config(),
            number::UNHALTED_TIMER_COUNT => self.unhalted.count(),
            _ => return Err(MsrRefused),
        })
    }

    /// Writes an MSR. `direct`: timers may send interrupts of their own.
    ///
    /// # Errors
    /// [`MsrRefused`]: it does not exist or cannot hold the value, or there is no controller.
    pub fn write(
        &mut self,
        index: u32,
        value: u64,
        origin: Origin,
        direct: bool,
    ) -> Result<(), MsrRefused> {
        let by_guest = origin == Origin::Guest;
        if UNHALTED_TIMER.contains(&index) {
            return self.set_unhalted_timer(index, value, by_guest);
        }
        if !self.presence.synic.is_active() && (by_guest || value != 0) {
            return Err(MsrRefused);
        }
        match index {
            number::SCONTROL => self.control = value,
            number::SVERSION if by_guest => return Err(MsrRefused),
            number::SVERSION => self.version = value,
            number::SIEFP => {
                self.clear_page(value, origin)?;
                self.event_page = value;
            }
            number::SIMP => {
                self.clear_page(value, origin)?;
                self.message_page = value;
            }
            number::EOM => self.end_all(),
            number::SINT0..=number::SINT15 => self.set_sint(sint_of(index), value, by_guest)?,
            number::STIMER0_CONFIG..=number::STIMER3_COUNT => {
                self.set_timer(index, value, by_guest, direct)?;
            }
            _ => return Err(MsrRefused),
        }
        if by_guest && matches!(index, number::SCONTROL | number::SIEFP | number::SIMP) {
            self.tell_root(index);
        }
        Ok(())
    }

    fn set_sint(&self, sint: usize, value: u64, by_guest: bool) -> Result<(), MsrRefused> {
        let is_masked = value & layout::SINT_MASKED != 0;
        if (value as u8) < layout::FIRST_VECTOR && by_guest && !is_masked {
            return Err(MsrRefused);
        }
        self.presence.synic.set_sint(sint, value);
        Ok(())
    }

    fn set_timer(
        &mut self,
        index: u32,
        value: u64,
        by_guest: bool,
        direct: bool,
    ) -> Result<(), MsrRefused> {
        match timer_of(index) {
            (_, Field::Config) if by_guest && !direct && TimerConfig(value).is_direct() => {
                return Err(MsrRefused);
            }
            (timer, Field::Config) => self.timers[timer].set_config(TimerConfig(value)),
            (timer, Field::Count) => self.timers[timer].set_count(value, by_guest),
        }
        self.presence.kick.look();
        Ok(())
    }

    fn set_unhalted_timer(
        &mut self,
        index: u32,
        value: u64,
        by_guest: bool,
    ) -> Result<(), MsrRefused> {
        let now = by_guest.then(now_ns);
        match index {
            number::UNHALTED_TIMER_CONFIG => self.unhalted.set_config(value, now)?,
            _ => self.unhalted.set_count(value, now),
        }
        self.presence.kick.look();
        Ok(())
    }

    fn clear_page(&self, value: u64, origin: Origin) -> Result<(), MsrRefused> {
        if value & ENABLED == 0 || origin == Origin::Root || self.keeps_pages {
            return Ok(());
        }
        let cleared = memory::copy_in(&self.vm.memory.normal, value & PAGE, &[0; 4096]);
        if cleared { Ok(()) } else { Err(MsrRefused) }
    }

    fn tell_root(&mut self, msr: u32) {
        self.wish = Some(Wish::Synic(SynicWish {
            msr,
            control: self.control,
            event_page: self.event_page,
            message_page: self.message_page,
        }));
    }

    /// Messages of any source may have been taken.
    fn end_all(&self) {
        if let Some(irqchip) = self.vm.irqchip.get() {
            irqchip.end_sints(&self.vm.vcpus(), &self.presence, ALL_SINTS);
        }
    }

    /// When a timer is to be looked at, on the alarms' clock.
    pub fn next_look(&self) -> Option<u64> {
        let timers = self.timers.iter().filter_map(Timer::alarm_ns);
        timers.chain(self.unhalted.alarm_ns()).min()
    }

    /// Does what is due. `tsc`: of this processor.
    pub fn look(&mut self, tsc: u64) {
        if self.unhalted.is_on()
            && let Some(interrupt) = self.unhalted.look(now_ns())
        {
            self.tell_unhalted(interrupt);
        }
        if !self.presence.synic.is_active() {
            return;
        }
        let ended = self.presence.synic.take_ended();
        let alarm_ns = now_ns();
        for place in 0..layout::TIMERS {
            let mut timer = self.timers[place];
            timer.note_ended(ended);
            let rings = timer.alarm_ns().is_some_and(|at| at <= alarm_ns);
            if timer.is_due() || rings {
                let reference = self.vm.hyperv.shared().reference.count(&self.vm, tsc);
                timer.look(Now { reference, alarm_ns }, |config, expiration| {
                    self.send(place as u32, config, expiration, reference)
                });
            }
            self.timers[place] = timer;
        }
    }

    /// Whether the timer's message or interrupt is sent. A tick whose place is taken is lost.
    fn send(&self, timer: u32, config: TimerConfig, expiration: u64, now: u64) -> bool {
        if config.is_direct() {
            return self.interrupt(config.vector());
        }
        let message = layout::timer_message(timer, expiration, now);
        let sint = config.sint();
        if self.message_page & ENABLED == 0 {
            return false;
        }
        let place = (self.message_page & PAGE) + u64::from(sint) * layout::MESSAGE_SIZE;
        let memory = Structure::at(&self.vm.memory.normal, place, layout::TIMER_MESSAGE_SIZE);
        let Some(memory) = memory else { return false };
        if memory.u32(layout::MESSAGE_TYPE) != 0 {
            if !config.is_periodic() {
                memory.set_bits(layout::MESSAGE_FLAGS, layout::MESSAGE_PENDING);
            }
            return config.is_periodic();
        }
        memory.write(0, &message);
        let vector = self.presence.synic.vector(sint.into());
        self.presence.synic.is_polled(sint.into())
            || vector.is_some_and(|vector| self.interrupt(vector))
    }

    /// The guest has executed for a period.
    fn tell_unhalted(&self, interrupt: Interrupt) {
        let place = self.assist_page.map(|page| page + layout::UNHALTED_TIMER_EXPIRED);
        if let Some(expired) = place.and_then(|at| Structure::at(&self.vm.memory.normal, at, 1)) {
            expired.write(0, &[1]);
        }
        match interrupt {
            Interrupt::Fixed(vector) => self.interrupt(vector),
            Interrupt::Nmi => self.send_to_itself(DeliveryMode::Nmi, 0),
        };
    }

    fn interrupt(&self, vector: u8) -> bool {
        self.send_to_itself(DeliveryMode::Fixed, vector)
    }

    fn send_to_itself(&self, mode: DeliveryMode, vector: u8) -> bool {
        if !self.presence.lapic.address().enabled {
            return false;
        }
        let message =
            Message { destination: Destination::Itself, mode, vector, level: false, assert: true };
        self.presence.lapic.inbox.post(&message);
        true
    }
}

/// The two MSRs of a timer.
enum Field {
    Config,
    Count,
}

fn timer_of(index: u32) -> (usize, Field) {
    let place = index - number::STIMER0_CONFIG;
    let field = if place.is_multiple_of(2) { Field::Config } else { Field::Count };
    ((place / 2) as usize, field)
}

fn sint_of(index: u32) -> usize {
    (index - number::SINT0) as usize
}
