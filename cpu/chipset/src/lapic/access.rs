//! Register reads and writes by the guest, and the image that a VMM saves and restores.

use super::message::{DeliveryMode, Destination, Message, x2apic_ldr};
use super::register::{self, error};
use super::timer::{self, Count, TimerMode};
use super::{Effect, Lapic, REGISTERS, Refused};

/// Bits of the spurious-interrupt vector register.
const SVR_WRITABLE: u32 = 0x3FF;
/// Bits of the interrupt command register that x2APIC mode knows.
const ICR_WRITABLE: u32 = 0xC_CFFF;
/// Bit of the timer's local vector table entry.
const LVT_DEADLINE_MODE: u32 = 1 << 18;
/// Bytes of the saved image.
pub const IMAGE_LEN: usize = REGISTERS * 16;

impl Lapic {
    /// Reads a register by MMIO in xAPIC mode.
    pub fn read_mmio(&mut self, register: u8, now_ns: u64) -> u32 {
        if self.readable(register) && register != register::SELF_IPI {
            return self.read(register, now_ns);
        }
        self.note_error(error::ILLEGAL_REGISTER);
        0
    }

    /// Writes a register by MMIO in xAPIC mode.
    pub fn write_mmio(&mut self, register: u8, value: u32, now_ns: u64) -> Effect {
        match register {
            register::ICR_HIGH => self.set(register, value & 0xFF00_0000),
            register::ICR_LOW => {
                let high = u64::from(self.get(register::ICR_HIGH)) << 32;
                return self.command(high | u64::from(value));
            }
            register::ID => self.set(register, value & 0xFF00_0000),
            register::LDR => self.set(register, value & 0xFF00_0000),
            register::DFR => self.set(register, value | 0x0FFF_FFFF),
            register if self.writable(register) => return self.write(register, value, now_ns),
            _ => self.note_error(error::ILLEGAL_REGISTER),
        }
        Effect::None
    }

    /// Reads a register by RDMSR in x2APIC mode.
    ///
    /// # Errors
    /// [`Refused`]: no such register.
    pub fn read_msr(&self, register: u8, now_ns: u64) -> Result<u64, Refused> {
        match register {
            register::ICR_LOW => {
                let high = u64::from(self.get(register::ICR_HIGH));
                Ok(high << 32 | u64::from(self.get(register::ICR_LOW)))
            }
            register::DFR | register::ICR_HIGH | register::SELF_IPI | register::EOI => Err(Refused),
            register if self.readable(register) => Ok(u64::from(self.read(register, now_ns))),
            _ => Err(Refused),
        }
    }

    /// Writes a register by WRMSR in x2APIC mode.
    ///
    /// # Errors
    /// [`Refused`]: no such register, or a reserved bit.
    pub fn write_msr(&mut self, register: u8, value: u64, now_ns: u64) -> Result<Effect, Refused> {
        if register == register::ICR_LOW {
            let reserved = value as u32 & !(ICR_WRITABLE | register::ICR_BUSY) != 0;
            return if reserved { Err(Refused) } else { Ok(self.command(value)) };
        }
        let value = u32::try_from(value).map_err(|_| Refused)?;
        match register {
            register::SELF_IPI if value <= 0xFF => {
                self.raise(value as u8);
                Ok(Effect::None)
            }
            register::EOI | register::ESR if value != 0 => Err(Refused),
            register if self.writable(register) && !reserved(register, value) => {
                Ok(self.write(register, value, now_ns))
            }
            _ => Err(Refused),
        }
    }

    fn readable(&self, register: u8) -> bool {
        match register {
            register::LVT_CMCI => self.cmci,
            register => {
                matches!(register, register::ID | register::VERSION | register::TPR..=register::ESR
                    | register::ICR_LOW..=register::TIMER_CURRENT | register::TIMER_DIVIDE)
            }
        }
    }

    fn writable(&self, register: u8) -> bool {
        match register {
            register::LVT_CMCI => self.cmci,
            register => matches!(
                register,
                register::TPR | register::EOI | register::SVR | register::ESR | register::LVT_TIMER
                    ..=register::TIMER_INITIAL | register::TIMER_DIVIDE
            ),
        }
    }

    fn read(&self, register: u8, now_ns: u64) -> u32 {
        match register {
            register::ID if self.x2apic() => self.x2apic_id,
            register::PPR => u32::from(self.processor_priority()),
            register::TIMER_CURRENT => {
                if self.timer_mode() == TimerMode::TscDeadline {
                    return 0;
                }
                self.count.left(self.divisor(), now_ns)
            }
            _ => self.get(register),
        }
    }

    fn divisor(&self) -> u32 {
        timer::divisor(self.get(register::TIMER_DIVIDE))
    }

    fn write(&mut self, register: u8, value: u32, now_ns: u64) -> Effect {
        match register {
            register::TPR => self.set(register, value & 0xFF),
            register::EOI => return self.end_of_interrupt(),
            register::SVR => self.write_svr(value),
            register::ESR => {
                let errors = std::mem::take(&mut self.errors);
                self.set(register, errors);
            }
            register::LVT_TIMER => self.write_lvt_timer(value),
            register::LVT_CMCI | register::LVT_THERMAL..=register::LVT_ERROR => {
                self.write_lvt(register, value);
            }
            register::TIMER_INITIAL => self.write_timer_initial(value, now_ns),
            register::TIMER_DIVIDE => {
                let old = self.divisor();
                self.set(register, value & 0xB);
                let initial = self.get(register::TIMER_INITIAL);
                self.count = self.count.with_divisor(old, self.divisor(), initial, now_ns);
            }
            _ => {}
        }
        Effect::None
    }

    fn write_svr(&mut self, value: u32) {
        self.set(register::SVR, value & SVR_WRITABLE);
        if value & register::SVR_ENABLED == 0 {
            for lvt in self.local_vector_table() {
                self.set(lvt, self.get(lvt) | register::LVT_MASKED);
            }
        }
    }

    fn write_lvt(&mut self, register: u8, value: u32) {
        let mut value = value & self.lvt_writable(register);
        if !self.software_enabled() {
            value |= register::LVT_MASKED;
        }
        self.set(register, value);
    }

    /// Bits of a local vector table entry that software writes.
    pub(super) fn lvt_writable(&self, register: u8) -> u32 {
        let lacks_mode = register == register::LVT_TIMER && !self.has_deadline_mode;
        lvt_legal(register) & if lacks_mode { !LVT_DEADLINE_MODE } else { u32::MAX }
    }

    /// A change between counting and deadline mode disarms the timer; one between one-shot and periodic
    /// counts when the count ends.
    fn write_lvt_timer(&mut self, value: u32) {
        let old = self.timer_mode();
        self.write_lvt(register::LVT_TIMER, value);
        let new = self.timer_mode();
        if (old == TimerMode::TscDeadline) != (new == TimerMode::TscDeadline) {
            self.count = Count::default();
            self.tsc_deadline = 0;
            self.set(register::TIMER_INITIAL, 0);
        }
        self.count.set_periodic(new == TimerMode::Periodic);
    }

    fn write_timer_initial(&mut self, value: u32, now_ns: u64) {
        let mode = self.timer_mode();
        if mode == TimerMode::TscDeadline {
            return;
        }
        self.set(register::TIMER_INITIAL, value);
        self.count = Count::start(value, self.divisor(), mode == TimerMode::Periodic, now_ns);
    }

    /// Ends the interrupt in service with the highest priority, as a write of the EOI register does.
    pub fn end_of_interrupt(&mut self) -> Effect {
        let mut isr = self.vectors(register::ISR);
        let Some(vector) = isr.highest() else { return Effect::None };
        isr.remove(vector);
        self.set_vectors(register::ISR, isr);
        let suppressed = self.get(register::SVR) & register::SVR_SUPPRESS_EOI_BROADCAST != 0;
        let level = self.vectors(register::TMR).contains(vector) && !suppressed;
        Effect::EndOfInterrupt { vector, level }
    }

    /// Interrupt command: the message it sends.
    fn command(&mut self, value: u64) -> Effect {
        let (low, high) = (value as u32 & !register::ICR_BUSY, (value >> 32) as u32);
        self.set(register::ICR_LOW, low);
        self.set(register::ICR_HIGH, high);
        let mode = DeliveryMode::from_bits(low >> 8);
        let has_vector = matches!(mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority);
        if has_vector && low & 0xFF < 16 {
            self.note_error(error::SEND_ILLEGAL_VECTOR);
            return Effect::None;
        }
        let field = if self.x2apic() { high } else { high >> 24 };
        let destination = match (low >> 18 & 3, low & 1 << 11 != 0) {
            (0, false) => Destination::Physical { id: field, byte: false },
            (0, true) => Destination::Logical { mda: field },
            (1, _) => Destination::Itself,
            (2, _) => Destination::All,
            _ => Destination::Others,
        };
        Effect::Send(Message {
            destination,
            mode,
            vector: low as u8,
            level: low & 1 << 15 != 0,
            assert: low & 1 << 14 != 0,
        })
    }

    /// The registers as a VMM saves them: 32 bits at every sixteenth byte.
    #[must_use]
    pub fn image(&self, now_ns: u64) -> [u8; IMAGE_LEN] {
        let mut image = [0; IMAGE_LEN];
        for (number, bytes) in (0u8..).zip(image.chunks_exact_mut(16)) {
            let value = match number {
                register::PPR | register::TIMER_CURRENT => self.read(number, now_ns),
                register::ID if self.x2apic() => self.x2apic_id << 24,
                _ => self.get(number),
            };
            bytes[..4].copy_from_slice(&value.to_le_bytes());
        }
        image
    }

    /// Restores the registers from such an image; the count goes on from the current count in it.
    pub fn restore(&mut self, image: &[u8; IMAGE_LEN], now_ns: u64) {
        for (register, bytes) in self.registers.iter_mut().zip(image.chunks_exact(16)) {
            *register = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        if self.x2apic() {
            self.set(register::ID, self.x2apic_id << 24);
            self.set(register::LDR, x2apic_ldr(self.x2apic_id));
        }
        self.set_version();
        self.set(register::ICR_LOW, self.get(register::ICR_LOW) & !register::ICR_BUSY);
        let periodic = self.timer_mode() == TimerMode::Periodic;
        let initial = self.get(register::TIMER_INITIAL);
        let left = self.get(register::TIMER_CURRENT);
        self.count = Count::resume(initial, left, self.divisor(), periodic, now_ns);
    }
}

/// Bits of a local vector table entry, with those of modes that are not there.
fn lvt_legal(register: u8) -> u32 {
    match register {
        register::LVT_TIMER => 0x7_00FF,
        register::LVT_LINT0 | register::LVT_LINT1 => 0x1_A7FF,
        register::LVT_ERROR => 0x1_00FF,
        _ => 0x1_07FF,
    }
}

/// Whether a value has bits that a register lacks, which x2APIC mode refuses.
fn reserved(register: u8, value: u32) -> bool {
    let legal = match register {
        register::TPR => 0xFF,
        register::SVR => SVR_WRITABLE,
        register::TIMER_DIVIDE => 0xB,
        register::LVT_CMCI | register::LVT_TIMER..=register::LVT_ERROR => {
            // Delivery status and remote IRR are read-only, not reserved.
            lvt_legal(register) | 0x5000
        }
        _ => u32::MAX,
    };
    value & !legal != 0
}
