//! A processor and the controllers: its local APIC, and the devices its accesses reach.
//!
//! Used by the thread that runs the vCPU. Whatever an access makes a local APIC send is sent before
//! it returns.

use std::sync::Arc;

use cpu_chipset::lapic::{DeliveryMode, Effect, Lapic, Refused, register};

use super::Irqchip;
use super::pit::{GSI, PitTimer};
use super::routing::Route;
use crate::alarm::now_ns;
use crate::object::presence::Presence;

/// Bytes of a local APIC's registers.
const LAPIC_LEN: u64 = 0x1000;
/// First MSR of x2APIC mode.
const X2APIC_MSRS: u32 = 0x800;

/// What became of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No controller has it; it is the root's.
    Elsewhere,
    /// Done.
    Done,
    /// Done, and it ended an interrupt with this vector, for which the root's I/O APIC waits.
    Ended(u8),
}

/// The controllers as one processor sees them.
pub struct Local<'a> {
    /// Its local APIC.
    pub lapic: &'a mut Lapic,
    /// The VM's controllers.
    pub irqchip: &'a Irqchip,
    /// MV_QUIRK_APIC_HOLE.
    pub hole: bool,
    /// The VM's timer.
    pub pit: Option<&'a Arc<PitTimer>>,
    /// Where senders find its local APIC.
    pub presence: &'a Presence,
    /// All processors of the VM.
    pub vcpus: &'a [Arc<Presence>],
}

impl Local<'_> {
    /// Reads device memory. False: no controller is there.
    pub fn read_memory(&mut self, gpa: u64, bytes: &mut [u8]) -> bool {
        if let Some(offset) = self.lapic_offset(gpa) {
            bytes.fill(0xFF);
            let inside = offset as usize % 4 + bytes.len() <= 4 && offset % 16 < 4;
            if !self.listens() {
                return self.hole;
            }
            if inside {
                let value = self.lapic.read_mmio((offset >> 4) as u8, now_ns());
                let from = offset as usize % 4;
                bytes.copy_from_slice(&value.to_le_bytes()[from..from + bytes.len()]);
            }
            return true;
        }
        let Some(value) = self.irqchip.read_ioapic(gpa) else { return false };
        let value = u64::from(value).to_le_bytes();
        let len = bytes.len().min(value.len());
        bytes[..len].copy_from_slice(&value[..len]);
        true
    }

    /// Writes device memory.
    pub fn write_memory(&mut self, gpa: u64, bytes: &[u8]) -> Access {
        if let Some(offset) = self.lapic_offset(gpa) {
            let aligned = offset.is_multiple_of(16);
            if !self.listens() {
                return if self.hole { Access::Done } else { Access::Elsewhere };
            }
            return match <[u8; 4]>::try_from(bytes) {
                Ok(word) if aligned => {
                    let value = u32::from_le_bytes(word);
                    let effect = self.lapic.write_mmio((offset >> 4) as u8, value, now_ns());
                    self.carry_out(effect)
                }
                _ => Access::Done,
            };
        }
        if !self.irqchip.has_ioapic_at(gpa) {
            return Access::Elsewhere;
        }
        let mut word = [0; 4];
        let len = bytes.len().min(4);
        word[..len].copy_from_slice(&bytes[..len]);
        let value = u32::from_le_bytes(word);
        self.may_unmask(|it| it.irqchip.write_ioapic(it.vcpus, gpa, value));
        Access::Done
    }

    /// Does what may unmask inputs of the controllers, and tells the timer if one of its is.
    fn may_unmask(&self, write: impl FnOnce(&Self)) {
        let before = self.pit.map(|_| self.irqchip.open_inputs(GSI));
        write(self);
        if let (Some(pit), Some(before)) = (self.pit, before)
            && self.irqchip.open_inputs(GSI) > before
        {
            pit.unmasked();
        }
    }

    fn lapic_offset(&self, gpa: u64) -> Option<u64> {
        let page = self.lapic.apic_base() & !0xFFF;
        gpa.checked_sub(page).filter(|offset| *offset < LAPIC_LEN)
    }

    /// Whether an access of memory is one of the task-priority register.
    #[must_use]
    pub fn is_task_priority(&self, gpa: u64, len: usize, write: bool) -> bool {
        let first = u64::from(register::TPR) << 4;
        let at = self.lapic_offset(gpa).and_then(|offset| offset.checked_sub(first));
        let fits = |at: u64| if write { at == 0 && len == 4 } else { at + len as u64 <= 4 };
        self.listens() && at.is_some_and(fits)
    }

    /// Whether the local APIC's registers are memory.
    fn listens(&self) -> bool {
        self.lapic.enabled() && !self.lapic.x2apic()
    }

    /// Reads a port. False: no controller has it.
    pub fn read_port(&mut self, port: u16, bytes: &mut [u8]) -> bool {
        let value = self.irqchip.read_pic(self.vcpus, port);
        let value = value.or_else(|| self.pit?.read_port(port));
        if let Some(value) = value {
            bytes.fill(0);
            bytes[0] = value;
        }
        value.is_some()
    }

    /// Writes a port.
    pub fn write_port(&mut self, port: u16, bytes: &[u8]) -> Access {
        if self.irqchip.has_pic_at(port) {
            self.may_unmask(|it| it.irqchip.write_pic(it.vcpus, port, bytes[0]));
            self.note_ended_inputs();
            return Access::Done;
        }
        match self.pit.is_some_and(|pit| pit.write_port(port, bytes[0])) {
            true => Access::Done,
            false => Access::Elsewhere,
        }
    }

    /// Reads a register of the local APIC by its MSR.
    ///
    /// # Errors
    /// [`Refused`]: #GP.
    pub fn read_msr(&mut self, index: u32) -> Result<u64, Refused> {
        self.lapic.read_msr(self.x2apic_register(index)?, now_ns())
    }

    /// Writes a register of the local APIC by its MSR.
    ///
    /// # Errors
    /// [`Refused`]: #GP.
    pub fn write_msr(&mut self, index: u32, value: u64) -> Result<Access, Refused> {
        let register = self.x2apic_register(index)?;
        let effect = self.lapic.write_msr(register, value, now_ns())?;
        Ok(self.carry_out(effect))
    }

    /// Reads a register of the local APIC, in whatever mode it is: ICR as one of 64 bits.
    ///
    /// # Errors
    /// [`Refused`]: it cannot be read.
    pub fn read_register(&self, register: u8) -> Result<u64, Refused> {
        self.lapic.read_msr(register, now_ns())
    }

    /// Writes a register of the local APIC, in whatever mode it is: ICR as one of 64 bits.
    ///
    /// # Errors
    /// [`Refused`]: the register has 32 bits.
    pub fn write_register(&mut self, register: u8, value: u64) -> Result<Access, Refused> {
        let now = now_ns();
        if register == register::ICR_LOW {
            if self.lapic.x2apic() {
                let effect = self.lapic.write_msr(register, value, now)?;
                return Ok(self.carry_out(effect));
            }
            self.lapic.write_mmio(register::ICR_HIGH, (value >> 32) as u32, now);
        } else if value >> 32 != 0 {
            return Err(Refused);
        }
        let effect = self.lapic.write_mmio(register, value as u32, now);
        Ok(self.carry_out(effect))
    }

    fn x2apic_register(&self, index: u32) -> Result<u8, Refused> {
        let register = index.checked_sub(X2APIC_MSRS).and_then(|at| u8::try_from(at).ok());
        register.filter(|_| self.lapic.x2apic()).ok_or(Refused)
    }

    fn carry_out(&mut self, effect: Effect) -> Access {
        self.publish();
        match effect {
            Effect::None => Access::Done,
            Effect::Send(message) => {
                self.irqchip.send_from(self.vcpus, self.presence, &message);
                Access::Done
            }
            Effect::EndOfInterrupt { vector, level } => self.end_of_interrupt(vector, level),
        }
    }

    /// Ends the interrupt in service with the highest priority, for whose end nobody waits.
    pub fn end_unheard(&mut self) {
        let effect = self.lapic.end_of_interrupt();
        self.carry_out(effect);
    }

    /// Whether nobody waits for the end of a vector in service.
    #[must_use]
    pub fn ends_unheard(&self, vector: u8) -> bool {
        let in_service = self.pit.is_some_and(|pit| pit.is_in_service());
        let ticks = in_service && self.irqchip.has_edge(GSI, vector);
        !self.lapic.is_level(vector) && !ticks && !self.irqchip.is_resampled(vector)
    }

    fn end_of_interrupt(&mut self, vector: u8, level: bool) -> Access {
        let synic = &self.presence.synic;
        if synic.is_active() {
            let sints = synic.sources_of(vector).fold(0, |sints, sint| sints | 1 << sint);
            self.irqchip.end_sints(self.vcpus, self.presence, sints);
        }
        self.irqchip.end_of_interrupt(self.vcpus, vector, level);
        if level {
            if self.irqchip.ends_at_root(vector) {
                return Access::Ended(vector);
            }
        } else if let Some(pit) = self.pit
            && pit.is_in_service()
            && self.irqchip.has_edge(GSI, vector)
        {
            pit.end_of_interrupt();
        }
        Access::Done
    }

    /// Tells the timer of its tick's end at the 8259A pair.
    fn note_ended_inputs(&self) {
        let inputs = self.irqchip.note_ended_inputs(self.vcpus);
        if let Some(pit) = self.pit
            && inputs != 0
            && self.irqchip.leads_to(GSI, |input| inputs & 1 << input != 0)
        {
            pit.end_of_interrupt();
        }
    }

    /// Makes the local APIC's address known after it may have changed.
    pub fn publish(&self) {
        self.presence.lapic.publish(&self.lapic.address(), self.lapic.accepts_external());
    }

    /// Takes in what has come, and looks at the timer. `tsc`: of this processor.
    pub fn look(&mut self, tsc: u64) {
        self.lapic.take_in(&self.presence.lapic.inbox);
        self.lapic.run_timer(now_ns(), tsc);
    }

    /// Whether an interrupt can be delivered once the processor is open to it.
    #[must_use]
    pub fn has_interrupt(&self) -> bool {
        self.has_external() || self.lapic.pending().is_some()
    }

    /// Whether the next interrupt is the 8259A's.
    #[must_use]
    pub fn has_external(&self) -> bool {
        self.irqchip.pic_output() && self.lapic.accepts_external()
    }

    /// The vector of the next interrupt; the 8259A comes first, as on the processor's pins.
    pub fn acknowledge(&mut self) -> Option<u8> {
        if self.has_external() {
            let vector = self.irqchip.acknowledge_pic(self.vcpus);
            self.note_ended_inputs();
            return Some(vector);
        }
        self.lapic.acknowledge()
    }
}

impl Irqchip {
    /// Whether a line leads to an edge entry of the I/O APIC with this vector.
    fn has_edge(&self, gsi: u32, vector: u8) -> bool {
        let table = self.ioapic().redirtbl;
        self.routing().of(gsi).iter().any(|route| match *route {
            Route::Ioapic(pin) => table.get(usize::from(pin)).is_some_and(|entry| {
                let mode = DeliveryMode::from_bits(entry.delivery_mode().into());
                let has_vector = matches!(mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority);
                has_vector && entry.vector() == vector
            }),
            _ => false,
        })
    }

    /// Whether a line leads to an input of the 8259A pair that `is` finds.
    fn leads_to(&self, gsi: u32, is: impl Fn(u8) -> bool) -> bool {
        self.routing().of(gsi).iter().any(|route| matches!(*route, Route::Pic(input) if is(input)))
    }
}
