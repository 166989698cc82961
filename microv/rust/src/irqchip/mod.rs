//! The interrupt controllers of a VM: which exist, and the road of an interrupt line.
//!
//! Lines are routed when they change. The 8259A pair and the I/O APIC have a lock each, as they have
//! one bus; local APICs have none.

pub mod delivery;
mod ioapic;
mod lines;
pub mod local;
mod outcome;
mod pics;
pub mod pit;
pub mod port;
mod resampling;
mod root_ends;
pub mod routing;
pub mod x2apic_format;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use cpu_chipset::lapic::{DeliveryMode, Destination, Message};
use cpu_chipset::{Ioapic, IoapicMessage, Pic, PicPair};

use crate::object::presence::Presence;
use delivery::{Arbiter, Delivered};
use ioapic::{Change, IoapicWithLines};
pub use lines::Source;
pub use outcome::LineOutcome;
use pics::Pics;
use resampling::Resampling;
use root_ends::RootEnds;
use routing::{MAX_GSI, Route, Routing};
use x2apic_format::X2apicFormat;

/// Which controllers are here, and which the root emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// 8259A pair, I/O APIC, local APICs.
    Full,
    /// Local APICs only. So many lines can be routed for the root's I/O APIC, and their ends leave
    /// the guest.
    Split {
        /// Lines 0 to this, exclusive.
        pins: u32,
    },
}

/// The controllers.
#[derive(Debug)]
pub struct Irqchip {
    model: Model,
    pics: Pics,
    ioapic: IoapicWithLines,
    x2apic_format: Arc<X2apicFormat>,
    routing: RwLock<Arc<Routing>>,
    /// Entries of a table whose last part has not come.
    staged: Mutex<Vec<(u32, Route)>>,
    arbiter: Arbiter,
    resampling: Resampling,
    root_ends: RootEnds,
}

impl Irqchip {
    /// Controllers after power-up.
    #[must_use]
    pub fn new(model: Model, x2apic_format: Arc<X2apicFormat>) -> Self {
        let routing = if model == Model::Full { Routing::of_a_pc() } else { Routing::default() };
        Irqchip {
            model,
            pics: Pics::default(),
            ioapic: IoapicWithLines::default(),
            x2apic_format,
            routing: RwLock::new(Arc::new(routing)),
            staged: Mutex::default(),
            arbiter: Arbiter::default(),
            resampling: Resampling::default(),
            root_ends: RootEnds::default(),
        }
    }

    /// Which controllers are here.
    #[must_use]
    pub fn model(&self) -> Model {
        self.model
    }

    /// The present routing.
    #[must_use]
    pub fn routing(&self) -> Arc<Routing> {
        Arc::clone(&self.routing.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the routing; a line that changes from now on takes the new one.
    pub fn set_routing(&self, routing: Routing) {
        if let Model::Split { pins } = self.model {
            self.root_ends.follow(&routing, pins);
        }
        *self.routing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routing);
    }

    /// Takes a part of a routing table; the last one makes it the present table. None: the table
    /// would be larger than any with every pin routed thrice.
    pub fn stage_routes(&self, part: Vec<(u32, Route)>, first: bool, last: bool) -> Option<()> {
        let mut staged = lock(&self.staged);
        if first {
            staged.clear();
        }
        if staged.len() + part.len() > 3 * MAX_GSI as usize {
            staged.clear();
            return None;
        }
        staged.extend(part);
        if last {
            self.set_routing(Routing::new(staged.drain(..)));
        }
        Some(())
    }

    /// Whether the root wants to hear of the end of a level interrupt with this vector.
    #[must_use]
    pub fn ends_at_root(&self, vector: u8) -> bool {
        self.root_ends.has(vector)
    }

    /// A source drives a line.
    pub fn drive(
        &self,
        vcpus: &[Arc<Presence>],
        gsi: u32,
        source: Source,
        high: bool,
    ) -> LineOutcome {
        if source == Source::Resampled {
            self.resampling.add(gsi);
        }
        let mut outcome = LineOutcome::Ignored;
        for route in self.routing().of(gsi) {
            let this = match *route {
                Route::Pic(input) => self.pics.drive(vcpus, input, source, high),
                Route::Ioapic(pin) => match self.ioapic.drive(pin, source, high) {
                    Change::None => LineOutcome::Ignored,
                    Change::Coalesced => LineOutcome::Coalesced,
                    Change::Sent(sent) => self.send_of_pin(vcpus, &sent).into(),
                },
                Route::Msi { address, data } if high => {
                    self.send(vcpus, &self.message(address, data)).into()
                }
                Route::Sint { vp_index, sint } if high => self.raise_sint(vcpus, vp_index, sint),
                Route::Msi { .. } | Route::Sint { .. } => LineOutcome::Ignored,
            };
            outcome = outcome.and(this);
        }
        outcome
    }

    fn raise_sint(&self, vcpus: &[Arc<Presence>], vp_index: u32, sint: u8) -> LineOutcome {
        let is_meant = |vcpu: &&Arc<Presence>| vcpu.vp_index.load(Ordering::Relaxed) == vp_index;
        let Some(vcpu) = vcpus.iter().find(is_meant) else { return LineOutcome::Ignored };
        let Some(vector) = vcpu.synic.vector(sint.into()) else { return LineOutcome::Ignored };
        let (destination, mode) = (Destination::Itself, DeliveryMode::Fixed);
        let message = Message { destination, mode, vector, level: false, assert: true };
        self.send_to(vcpu, &message).into()
    }

    /// Messages or interrupts of these sources of a processor's have ended, by bit: their resampled
    /// lines fall, and the processor is to look what waits for them.
    pub fn end_sints(&self, vcpus: &[Arc<Presence>], vcpu: &Presence, sints: u32) {
        if sints == 0 {
            return;
        }
        let vp_index = vcpu.vp_index.load(Ordering::Relaxed);
        self.let_go(vcpus, |sint| Route::Sint { vp_index, sint }, sints);
        vcpu.synic.end(sints);
        vcpu.kick.look();
    }

    /// What a device's write of `data` to `address` means.
    pub fn message(&self, address: u64, data: u32) -> Message {
        let format = &self.x2apic_format;
        Message::from_msi(address, data, format.has_wide_ids(), format.has_byte_broadcast())
    }

    /// Delivers a message that came from no local APIC.
    pub fn send(&self, vcpus: &[Arc<Presence>], message: &Message) -> Delivered {
        self.arbiter.deliver(vcpus, None, message)
    }

    /// Delivers a message to one processor.
    pub fn send_to(&self, vcpu: &Arc<Presence>, message: &Message) -> Delivered {
        self.arbiter.deliver(std::slice::from_ref(vcpu), Some(vcpu), message)
    }

    /// Delivers a message of a local APIC.
    pub fn send_from(&self, vcpus: &[Arc<Presence>], sender: &Presence, message: &Message) {
        self.arbiter.deliver(vcpus, Some(sender), message);
    }

    /// Delivers what the I/O APIC sends.
    fn send_of_pin(&self, vcpus: &[Arc<Presence>], sent: &IoapicMessage) -> Delivered {
        let id = u32::from(sent.entry.destination());
        let destination = if sent.entry.logical() {
            Destination::Logical { mda: id }
        } else {
            Destination::Physical { id, byte: self.x2apic_format.has_byte_broadcast() }
        };
        let message = Message {
            destination,
            mode: DeliveryMode::from_bits(sent.entry.delivery_mode().into()),
            vector: sent.entry.vector(),
            level: sent.entry.level(),
            assert: true,
        };
        self.send(vcpus, &message)
    }

    /// A local APIC has ended an interrupt. Whatever its trigger mode, resampled lines fall; of a
    /// level interrupt the I/O APIC sends again what is still high.
    pub fn end_of_interrupt(&self, vcpus: &[Arc<Presence>], vector: u8, level: bool) {
        if self.resampling.is_in_use() {
            self.let_go(vcpus, Route::Ioapic, self.ioapic().pins_of(vector));
        }
        if level {
            for sent in self.ioapic.end(vector) {
                self.send_of_pin(vcpus, &sent);
            }
        }
    }

    /// Inputs of the 8259A pair whose interrupts have ended since the last call, by bit.
    pub fn note_ended_inputs(&self, vcpus: &[Arc<Presence>]) -> u16 {
        let inputs = self.pics.take_ended();
        self.let_go(vcpus, Route::Pic, inputs.into());
        inputs
    }

    /// The interrupts of these pins have ended: of the lines to them, those that are resampled fall,
    /// and are kept for the root.
    fn let_go(&self, vcpus: &[Arc<Presence>], route: impl Fn(u8) -> Route, pins: u32) {
        if pins == 0 || !self.resampling.is_in_use() {
            return;
        }
        for gsi in self.resampling.lines_to(&self.routing(), route, pins) {
            self.drive(vcpus, gsi, Source::Resampled, false);
            self.resampling.note_end(gsi);
        }
    }

    /// Whether a resampled line leads to a pin of the I/O APIC with this vector.
    #[must_use]
    pub fn is_resampled(&self, vector: u8) -> bool {
        let lines = |pins| self.resampling.lines_to(&self.routing(), Route::Ioapic, pins);
        self.resampling.is_in_use() && !lines(self.ioapic().pins_of(vector)).is_empty()
    }

    /// Whether [`Self::take_ended`] has something to tell.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.resampling.has_ended()
    }

    /// Lines whose interrupts have ended since the last call, at most `limit` of them.
    pub fn take_ended(&self, limit: usize) -> Vec<u32> {
        self.resampling.take_ended(limit)
    }

    /// INTR of the 8259A pair.
    #[must_use]
    pub fn pic_output(&self) -> bool {
        self.pics.output()
    }

    /// The acknowledge cycle of a processor at the 8259A pair: the vector.
    pub fn acknowledge_pic(&self, vcpus: &[Arc<Presence>]) -> u8 {
        self.pics.acknowledge(vcpus)
    }

    /// A copy of the 8259A pair.
    pub fn pics(&self) -> PicPair {
        self.pics.pair()
    }

    /// Replaces the registers of the master, or of the slave.
    pub fn set_pic(&self, vcpus: &[Arc<Presence>], master: bool, pic: Pic) {
        self.pics.set(vcpus, master, pic);
    }

    /// A copy of the I/O APIC.
    pub fn ioapic(&self) -> Ioapic {
        self.ioapic.chip()
    }

    /// Replaces the registers of the I/O APIC, and sends what is pending in them.
    pub fn set_ioapic(&self, vcpus: &[Arc<Presence>], chip: Ioapic) {
        for sent in self.ioapic.set(chip) {
            self.send_of_pin(vcpus, &sent);
        }
    }

    /// How many of the inputs that a line leads to are not masked.
    #[must_use]
    pub fn open_inputs(&self, gsi: u32) -> usize {
        let is_open = |route: &&Route| match **route {
            Route::Pic(input) => !self.pics().is_masked(input),
            Route::Ioapic(pin) => {
                let table = self.ioapic().redirtbl;
                table.get(usize::from(pin)).is_some_and(|entry| !entry.masked())
            }
            Route::Msi { .. } | Route::Sint { .. } => false,
        };
        self.routing().of(gsi).iter().filter(is_open).count()
    }

    /// Whether an I/O APIC is here and has this address.
    #[must_use]
    pub fn has_ioapic_at(&self, gpa: u64) -> bool {
        self.model == Model::Full && self.ioapic.is_at(gpa)
    }

    /// Whether the 8259A pair is here and has this port.
    #[must_use]
    pub fn has_pic_at(&self, port: u16) -> bool {
        self.model == Model::Full && PicPair::has_port(port)
    }

    /// Reads a register of the I/O APIC. None: there is none at the address.
    pub fn read_ioapic(&self, gpa: u64) -> Option<u32> {
        if self.model == Model::Full { self.ioapic.read(gpa) } else { None }
    }

    /// Writes a register of the I/O APIC, if the address is its.
    pub fn write_ioapic(&self, vcpus: &[Arc<Presence>], gpa: u64, value: u32) {
        if let Some(sent) = self.ioapic.write(gpa, value) {
            self.send_of_pin(vcpus, &sent);
        }
    }

    /// Reads a port of the 8259A pair. None: there is none at the port.
    pub fn read_pic(&self, vcpus: &[Arc<Presence>], port: u16) -> Option<u8> {
        if self.has_pic_at(port) { self.pics.read(vcpus, port) } else { None }
    }

    /// Writes a port, if it is one of the 8259A pair's.
    pub fn write_pic(&self, vcpus: &[Arc<Presence>], port: u16, value: u8) {
        self.pics.write(vcpus, port, value);
    }
}

/// A panic elsewhere leaves a controller as consistent as any register write does.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
