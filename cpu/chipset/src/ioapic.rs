//! The I/O APIC with 24 pins (Intel 82093AA datasheet).
//!
//! A pin becomes a message to the local APICs, which the caller delivers. A level pin sends once,
//! sets Remote IRR, and sends again when the vector's end of interrupt comes back while the line is
//! still high.

/// Pins.
pub const PINS: usize = 24;
/// Version 11H, highest entry 23.
const VERSION: u32 = 0x11 | (PINS as u32 - 1) << 16;
/// Bits of an entry that software writes: not Delivery Status and Remote IRR.
const WRITABLE: u64 = 0xFF00_0000_0001_AFFF;
/// Index register and data window in the 256 bytes of the device.
const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;

/// A redirection table entry, laid out as the register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectionEntry(pub u64);

impl RedirectionEntry {
    const REMOTE_IRR: u64 = 1 << 14;
    const LEVEL: u64 = 1 << 15;
    const MASKED: u64 = 1 << 16;

    /// Vector, for Fixed and Lowest Priority delivery.
    #[must_use]
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// Delivery mode, 0 to 7 (0 Fixed, 1 Lowest Priority, 2 SMI, 4 NMI, 5 INIT, 7 ExtINT).
    #[must_use]
    pub const fn delivery_mode(self) -> u8 {
        (self.0 >> 8) as u8 & 7
    }

    /// Destination is logical.
    #[must_use]
    pub const fn logical(self) -> bool {
        self.0 & 1 << 11 != 0
    }

    /// Destination field.
    #[must_use]
    pub const fn destination(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Level-triggered.
    #[must_use]
    pub const fn level(self) -> bool {
        self.0 & Self::LEVEL != 0
    }

    /// Masked.
    #[must_use]
    pub const fn masked(self) -> bool {
        self.0 & Self::MASKED != 0
    }

    /// A local APIC has accepted the level interrupt and not yet ended it.
    #[must_use]
    pub const fn remote_irr(self) -> bool {
        self.0 & Self::REMOTE_IRR != 0
    }
}

/// What a pin sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoapicMessage {
    /// The pin.
    pub pin: u8,
    /// Its entry at that time.
    pub entry: RedirectionEntry,
}

/// The device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ioapic {
    /// Guest-physical address of its registers.
    pub base_address: u64,
    /// Selected register.
    pub ioregsel: u32,
    /// APIC ID, in bits 27:24 of register 0.
    pub id: u32,
    /// Lines that are high.
    pub irr: u32,
    /// Of those, the edges that have been sent.
    pub delivered: u32,
    /// The table.
    pub redirtbl: [RedirectionEntry; PINS],
}

impl Default for Ioapic {
    fn default() -> Self {
        Self::new()
    }
}

impl Ioapic {
    /// Where the PC has it.
    pub const DEFAULT_BASE: u64 = 0xFEC0_0000;
    /// Bytes of its registers.
    pub const LEN: u64 = 0x100;

    /// After power-up: every pin masked.
    #[must_use]
    pub fn new() -> Self {
        Ioapic {
            base_address: Self::DEFAULT_BASE,
            ioregsel: 0,
            id: 0,
            irr: 0,
            delivered: 0,
            redirtbl: [RedirectionEntry(RedirectionEntry::MASKED); PINS],
        }
    }

    /// Puts a pin, below [`PINS`], to a level. The message, if one is to be sent.
    pub fn set_line(&mut self, pin: u8, high: bool) -> Option<IoapicMessage> {
        let bit = 1u32.checked_shl(u32::from(pin)).filter(|_| usize::from(pin) < PINS)?;
        if !high {
            self.irr &= !bit;
            self.delivered &= !bit;
            return None;
        }
        self.irr |= bit;
        self.service(pin)
    }

    /// A message for a pin whose request is pending, if its entry lets it go.
    fn service(&mut self, pin: u8) -> Option<IoapicMessage> {
        let bit = 1 << pin;
        let entry = &mut self.redirtbl[usize::from(pin)];
        if self.irr & bit == 0 || entry.masked() {
            return None;
        }
        let sent = *entry;
        if entry.level() {
            if entry.remote_irr() {
                return None;
            }
            entry.0 |= RedirectionEntry::REMOTE_IRR;
        } else {
            if self.delivered & bit != 0 {
                return None;
            }
            self.delivered |= bit;
        }
        Some(IoapicMessage { pin, entry: sent })
    }

    /// The pins whose interrupts have a vector, by bit: masked or not, by edge or by level.
    #[must_use]
    pub fn pins_of(&self, vector: u8) -> u32 {
        let pins = self.redirtbl.iter().enumerate();
        pins.filter(|(_, entry)| entry.vector() == vector).fold(0, |bits, (pin, _)| bits | 1 << pin)
    }

    /// An end of interrupt for a vector. The pins it ends, by bit; those still high are to be sent
    /// again with [`Self::resend`].
    pub fn end_of_interrupt(&mut self, vector: u8) -> u32 {
        let mut ended = 0;
        for (pin, entry) in self.redirtbl.iter_mut().enumerate() {
            if entry.level() && entry.remote_irr() && entry.vector() == vector {
                entry.0 &= !RedirectionEntry::REMOTE_IRR;
                ended |= 1 << pin;
            }
        }
        ended
    }

    /// The message of a pin that is still high after its interrupt was ended.
    pub fn resend(&mut self, pin: u8) -> Option<IoapicMessage> {
        if usize::from(pin) < PINS { self.service(pin) } else { None }
    }

    /// Reads a register by its offset from the base.
    #[must_use]
    pub fn read(&self, offset: u64) -> u32 {
        match offset & 0xFF {
            IOREGSEL => self.ioregsel,
            IOWIN => self.read_selected(),
            _ => 0,
        }
    }

    fn read_selected(&self) -> u32 {
        match self.ioregsel {
            0 | 2 => (self.id & 0xF) << 24,
            1 => VERSION,
            index => match table_position(index) {
                Some((pin, shift)) => (self.redirtbl[pin].0 >> shift) as u32,
                None => u32::MAX,
            },
        }
    }

    /// Writes a register. The message of the pin that the write let go.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<IoapicMessage> {
        match offset & 0xFF {
            IOREGSEL => {
                self.ioregsel = value & 0xFF;
                None
            }
            IOWIN => self.write_selected(value),
            _ => None,
        }
    }

    fn write_selected(&mut self, value: u32) -> Option<IoapicMessage> {
        if self.ioregsel == 0 {
            self.id = (value >> 24) & 0xF;
            return None;
        }
        let (pin, shift) = table_position(self.ioregsel)?;
        let mask = (WRITABLE >> shift & 0xFFFF_FFFF) << shift;
        let entry = &mut self.redirtbl[pin];
        entry.0 = (entry.0 & !mask) | (u64::from(value) << shift & mask);
        if !entry.level() {
            // An edge entry has no end of interrupt that would clear it.
            entry.0 &= !RedirectionEntry::REMOTE_IRR;
        }
        self.service(pin as u8)
    }
}

/// Pin and bit position of a table register.
fn table_position(index: u32) -> Option<(usize, u32)> {
    let at = index.checked_sub(0x10)? as usize;
    (at < 2 * PINS).then_some((at / 2, (at as u32 % 2) * 32))
}
