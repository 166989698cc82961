//! The interrupt controllers of a VM: which exist, and the road of an interrupt line.
//!
//! Lines are routed when they change. The 8259A pair and the I/O APIC have a lock each, as they have
//! one bus; local APICs have none.

pub mod delivery;
mod lines;
pub mod local;
pub mod pit;
pub mod port;
pub mod routing;
pub mod x2apic_format;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use cpu_chipset::lapic::{DeliveryMode, Destination, Message};
use cpu_chipset::{IOAPIC_PINS, Ioapic, IoapicMessage, Pic, PicPair, Raised};

use crate::object::presence::Presence;
use delivery::{Arbiter, Delivered};
use lines::Lines;
pub use lines::Source;
use routing::{MAX_GSI, Route, Routing};
use x2apic_format::X2apicFormat;

const PIC_INPUTS: usize = 16;

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

/// 8259A pair and its inputs.
#[derive(Debug, Default)]
struct Pics {
    pair: PicPair,
    lines: Lines<PIC_INPUTS>,
}

/// I/O APIC and its inputs.
#[derive(Debug, Default)]
struct IoapicWithLines {
    chip: Ioapic,
    lines: Lines<IOAPIC_PINS>,
}

/// The controllers.
#[derive(Debug)]
pub struct Irqchip {
    model: Model,
    pics: Mutex<Pics>,
    /// INTR of the pair, for those who only want to know.
    pic_output: AtomicBool,
    ioapic: Mutex<IoapicWithLines>,
    x2apic_format: Arc<X2apicFormat>,
    routing: RwLock<Arc<Routing>>,
    /// Entries of a table whose last part has not come.
    staged: Mutex<Vec<(u32, Route)>>,
    arbiter: Arbiter,
    /// Lines that have had a source which lets go when their interrupt ends.
    resampled: Mutex<BTreeSet<u32>>,
    is_resampling: AtomicBool,
    /// Of those, the lines whose interrupts have ended.
    ended: Mutex<Vec<u32>>,
    has_ended: AtomicBool,
    /// Vectors of level interrupts that the root's I/O APIC wants to hear the end of (split model).
    ended_by_root: [AtomicU32; 8],
}

/// What became of a line's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineOutcome {
    /// Masked, or leads nowhere.
    Ignored,
    /// Pending already.
    Coalesced,
    /// So many interrupts were raised.
    Raised(usize),
}

impl Irqchip {
    /// Controllers after power-up.
    #[must_use]
    pub fn new(model: Model, x2apic_format: Arc<X2apicFormat>) -> Self {
        let routing = if model == Model::Full { Routing::of_a_pc() } else { Routing::default() };
        Irqchip {
            model,
            pics: Mutex::default(),
            pic_output: AtomicBool::new(false),
            ioapic: Mutex::default(),
            x2apic_format,
            routing: RwLock::new(Arc::new(routing)),
            staged: Mutex::default(),
            arbiter: Arbiter::default(),
            resampled: Mutex::default(),
            is_resampling: AtomicBool::new(false),
            ended: Mutex::default(),
            has_ended: AtomicBool::new(false),
            ended_by_root: Default::default(),
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
            self.note_ends_for_root(&routing, pins);
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

    fn note_ends_for_root(&self, routing: &Routing, pins: u32) {
        let mut vectors = [0; 8];
        for gsi in 0..pins {
            for route in routing.of(gsi) {
                if let Route::Msi { data, .. } = *route
                    && data & LEVEL != 0
                {
                    vectors[(data as usize & 0xFF) >> 5] |= 1 << (data & 31);
                }
            }
        }
        for (word, bits) in self.ended_by_root.iter().zip(vectors) {
            word.store(bits, Ordering::Release);
        }
    }

    /// Whether the root wants to hear of the end of a level interrupt with this vector.
    #[must_use]
    pub fn ends_at_root(&self, vector: u8) -> bool {
        self.ended_by_root[usize::from(vector >> 5)].load(Ordering::Acquire) & 1 << (vector & 31)
            != 0
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
            lock(&self.resampled).insert(gsi);
            self.is_resampling.store(true, Ordering::Release);
        }
        let mut outcome = LineOutcome::Ignored;
        for route in self.routing().of(gsi) {
            let this = match *route {
                Route::Pic(input) => self.drive_pic(vcpus, input, source, high),
                Route::Ioapic(pin) => self.drive_ioapic(vcpus, pin, source, high),
                Route::Msi { address, data } if high => {
                    self.send(vcpus, &self.message(address, data)).into()
                }
                Route::Msi { .. } => LineOutcome::Ignored,
            };
            outcome = outcome.and(this);
        }
        outcome
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

    fn drive_pic(
        &self,
        vcpus: &[Arc<Presence>],
        input: u8,
        source: Source,
        high: bool,
    ) -> LineOutcome {
        let mut pics = lock(&self.pics);
        let Some(level) = pics.lines.drive(input, source, high) else {
            return LineOutcome::Ignored;
        };
        let raised = pics.pair.set_line(input, level);
        self.publish_pic_output(&pics, vcpus);
        match raised {
            Raised::Masked => LineOutcome::Ignored,
            Raised::Coalesced => LineOutcome::Coalesced,
            Raised::New => LineOutcome::Raised(1),
        }
    }

    fn publish_pic_output(&self, pics: &Pics, vcpus: &[Arc<Presence>]) {
        let output = pics.pair.output();
        let before = self.pic_output.swap(output, Ordering::AcqRel);
        if output && !before {
            for vcpu in vcpus.iter().filter(|vcpu| vcpu.lapic.accepts_external()) {
                vcpu.notify();
            }
        }
    }

    /// INTR of the 8259A pair.
    #[must_use]
    pub fn pic_output(&self) -> bool {
        self.pic_output.load(Ordering::Acquire)
    }

    /// The acknowledge cycle of a processor at the 8259A pair: the vector.
    pub fn acknowledge_pic(&self, vcpus: &[Arc<Presence>]) -> u8 {
        let mut pics = lock(&self.pics);
        let vector = pics.pair.acknowledge();
        self.publish_pic_output(&pics, vcpus);
        vector
    }

    /// Inputs of the 8259A pair whose interrupts have ended since the last call, by bit.
    pub fn note_ended_inputs(&self, vcpus: &[Arc<Presence>]) -> u16 {
        let inputs = lock(&self.pics).pair.take_ended();
        self.let_go(vcpus, Route::Pic, inputs.into());
        inputs
    }

    /// The interrupts of these pins have ended: of the lines to them, those that are resampled fall,
    /// and are kept for the root.
    fn let_go(&self, vcpus: &[Arc<Presence>], route: impl Fn(u8) -> Route, pins: u32) {
        for gsi in self.resampled_lines(route, pins) {
            self.drive(vcpus, gsi, Source::Resampled, false);
            lock(&self.ended).push(gsi);
            self.has_ended.store(true, Ordering::Release);
        }
    }

    /// The resampled lines to these pins.
    fn resampled_lines(&self, route: impl Fn(u8) -> Route, pins: u32) -> Vec<u32> {
        if pins == 0 || !self.is_resampling.load(Ordering::Acquire) {
            return Vec::new();
        }
        let routing = self.routing();
        let resampled = lock(&self.resampled);
        let pins = (0..32).filter(|pin| pins & 1 << pin != 0);
        let lines = pins.flat_map(|pin| routing.lines_to(route(pin)));
        lines.filter(|gsi| resampled.contains(gsi)).collect()
    }

    /// Whether a resampled line leads to a pin of the I/O APIC with this vector.
    #[must_use]
    pub fn is_resampled(&self, vector: u8) -> bool {
        self.is_resampling.load(Ordering::Acquire)
            && !self.resampled_lines(Route::Ioapic, self.ioapic().pins_of(vector)).is_empty()
    }

    /// Whether [`Self::take_ended`] has something to tell.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Lines whose interrupts have ended since the last call, at most `limit` of them.
    pub fn take_ended(&self, limit: usize) -> Vec<u32> {
        let mut ended = lock(&self.ended);
        let first = ended.len().min(limit);
        let rest = ended.split_off(first);
        self.has_ended.store(!rest.is_empty(), Ordering::Release);
        std::mem::replace(&mut *ended, rest)
    }

    fn drive_ioapic(
        &self,
        vcpus: &[Arc<Presence>],
        pin: u8,
        source: Source,
        high: bool,
    ) -> LineOutcome {
        let mut ioapic = lock(&self.ioapic);
        let Some(level) = ioapic.lines.drive(pin, source, high) else {
            return LineOutcome::Ignored;
        };
        let masked = ioapic.chip.redirtbl[usize::from(pin)].masked();
        match ioapic.chip.set_line(pin, level) {
            Some(sent) => self.send(vcpus, &self.message_of_pin(&sent)).into(),
            None if masked => LineOutcome::Ignored,
            None => LineOutcome::Coalesced,
        }
    }

    /// The message of a pin.
    fn message_of_pin(&self, sent: &IoapicMessage) -> Message {
        let id = u32::from(sent.entry.destination());
        let destination = if sent.entry.logical() {
            Destination::Logical { mda: id }
        } else {
            Destination::Physical { id, byte: self.x2apic_format.has_byte_broadcast() }
        };
        Message {
            destination,
            mode: DeliveryMode::from_bits(sent.entry.delivery_mode().into()),
            vector: sent.entry.vector(),
            level: sent.entry.level(),
            assert: true,
        }
    }

    /// A local APIC has ended an interrupt. Whatever its trigger mode, resampled lines fall; of a
    /// level interrupt the I/O APIC sends again what is still high.
    pub fn end_of_interrupt(&self, vcpus: &[Arc<Presence>], vector: u8, level: bool) {
        if self.is_resampling.load(Ordering::Acquire) {
            self.let_go(vcpus, Route::Ioapic, self.ioapic().pins_of(vector));
        }
        if !level {
            return;
        }
        let ended = lock(&self.ioapic).chip.end_of_interrupt(vector);
        for pin in (0..IOAPIC_PINS as u8).filter(|pin| ended & 1 << pin != 0) {
            let again = lock(&self.ioapic).chip.resend(pin);
            if let Some(sent) = again {
                self.send(vcpus, &self.message_of_pin(&sent));
            }
        }
    }

    /// A copy of the 8259A pair.
    pub fn pics(&self) -> PicPair {
        lock(&self.pics).pair
    }

    /// Replaces the registers of the master, or of the slave.
    pub fn set_pic(&self, vcpus: &[Arc<Presence>], master: bool, pic: Pic) {
        let mut pics = lock(&self.pics);
        if master {
            pics.pair.master = pic;
        } else {
            pics.pair.slave = pic;
        }
        self.publish_pic_output(&pics, vcpus);
    }

    /// A copy of the I/O APIC.
    pub fn ioapic(&self) -> Ioapic {
        lock(&self.ioapic).chip
    }

    /// Replaces the registers of the I/O APIC, and sends what is pending in them.
    pub fn set_ioapic(&self, vcpus: &[Arc<Presence>], chip: Ioapic) {
        lock(&self.ioapic).chip = chip;
        for pin in 0..IOAPIC_PINS as u8 {
            let pending = lock(&self.ioapic).chip.resend(pin);
            if let Some(sent) = pending {
                self.send(vcpus, &self.message_of_pin(&sent));
            }
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
            Route::Msi { .. } => false,
        };
        self.routing().of(gsi).iter().filter(is_open).count()
    }

    /// Whether an I/O APIC is here and has this address.
    #[must_use]
    pub fn has_ioapic_at(&self, gpa: u64) -> bool {
        self.model == Model::Full && offset_in(&lock(&self.ioapic).chip, gpa).is_some()
    }

    /// Whether the 8259A pair is here and has this port.
    #[must_use]
    pub fn has_pic_at(&self, port: u16) -> bool {
        self.model == Model::Full && PicPair::has_port(port)
    }

    /// Reads a register of the I/O APIC. None: there is none at the address.
    pub fn read_ioapic(&self, gpa: u64) -> Option<u32> {
        if !self.has_ioapic_at(gpa) {
            return None;
        }
        let ioapic = lock(&self.ioapic);
        let offset = offset_in(&ioapic.chip, gpa)?;
        Some(ioapic.chip.read(offset))
    }

    /// Writes a register of the I/O APIC, if the address is its.
    pub fn write_ioapic(&self, vcpus: &[Arc<Presence>], gpa: u64, value: u32) {
        let mut ioapic = lock(&self.ioapic);
        let Some(offset) = offset_in(&ioapic.chip, gpa) else { return };
        let sent = ioapic.chip.write(offset, value);
        drop(ioapic);
        if let Some(sent) = sent {
            self.send(vcpus, &self.message_of_pin(&sent));
        }
    }

    /// Reads a port of the 8259A pair. None: there is none at the port.
    pub fn read_pic(&self, vcpus: &[Arc<Presence>], port: u16) -> Option<u8> {
        if !self.has_pic_at(port) {
            return None;
        }
        let mut pics = lock(&self.pics);
        let value = pics.pair.read_port(port);
        self.publish_pic_output(&pics, vcpus);
        value
    }

    /// Writes a port, if it is one of the 8259A pair's.
    pub fn write_pic(&self, vcpus: &[Arc<Presence>], port: u16, value: u8) {
        let mut pics = lock(&self.pics);
        pics.pair.write_port(port, value);
        self.publish_pic_output(&pics, vcpus);
    }
}

/// Trigger mode bit of MSI data.
const LEVEL: u32 = 1 << 15;

impl From<Delivered> for LineOutcome {
    fn from(delivered: Delivered) -> Self {
        match delivered {
            Delivered::ToNobody => LineOutcome::Ignored,
            Delivered::Coalesced => LineOutcome::Coalesced,
            Delivered::To(count) => LineOutcome::Raised(count),
        }
    }
}

impl LineOutcome {
    /// The sum over the routes of a line, as KVM_IRQ_LINE_STATUS counts it.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ignored, other) => other,
            (this, Self::Ignored) => this,
            (Self::Coalesced, other) => other,
            (this, Self::Coalesced) => this,
            (Self::Raised(some), Self::Raised(more)) => Self::Raised(some + more),
        }
    }
}

fn offset_in(ioapic: &Ioapic, gpa: u64) -> Option<u64> {
    gpa.checked_sub(ioapic.base_address).filter(|offset| *offset < Ioapic::LEN)
}

/// A panic elsewhere leaves a controller as consistent as any register write does.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
