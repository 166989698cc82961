//! What travels to local APICs, and which of them it is for.
//!
//! SDM volume 3, "Determining IPI Destination", "Logical Destination Mode in x2APIC Mode".

/// Delivery mode of a message or a local vector table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// The vector, to every destination.
    Fixed,
    /// The vector, to one of the destinations.
    LowestPriority,
    /// System management interrupt.
    Smi,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up; the vector is the page of the first instruction.
    StartUp,
    /// The vector comes from the 8259A.
    ExtInt,
    /// The reserved encoding.
    Reserved,
}

impl DeliveryMode {
    /// From the three bits that registers and MSI data hold.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => Self::Reserved,
        }
    }
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// APICs by ID. FFH means all in xAPIC mode, FFFFFFFFH in x2APIC mode.
    Physical {
        /// ID.
        id: u32,
        /// FFH means all in x2APIC mode as well: the message has a byte for the ID.
        byte: bool,
    },
    /// APICs by logical ID.
    Logical {
        /// Message destination address: 8 bits, or 32 if the sender is in x2APIC mode.
        mda: u32,
    },
    /// The sender.
    Itself,
    /// Every APIC.
    All,
    /// Every APIC but the sender's.
    Others,
}

/// An interrupt message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whom it is for.
    pub destination: Destination,
    /// What it does.
    pub mode: DeliveryMode,
    /// Vector.
    pub vector: u8,
    /// Level-triggered.
    pub level: bool,
    /// Level of an INIT: false is the de-assertion that nobody obeys.
    pub assert: bool,
}

impl Message {
    /// From the address and data of an MSI, which is never a de-assertion: bit 14 is not looked at, as in
    /// KVM. `wide`: address bits 63:40 hold bits 31:8 of the
    /// destination. `byte`: as in [`Destination::Physical`].
    #[must_use]
    pub const fn from_msi(address: u64, data: u32, wide: bool, byte: bool) -> Self {
        let low = (address >> 12) as u32 & 0xFF;
        let high = if wide { (address >> 32) as u32 & 0xFFFF_FF00 } else { 0 };
        let destination = match address & 1 << 2 {
            0 => Destination::Physical { id: low | high, byte },
            _ => Destination::Logical { mda: low | high },
        };
        Message {
            destination,
            mode: DeliveryMode::from_bits(data >> 8),
            vector: data as u8,
            level: data & 1 << 15 != 0,
            assert: true,
        }
    }
}

/// What others need to know of a local APIC to address it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// IA32_APIC_BASE.EN.
    pub enabled: bool,
    /// In x2APIC mode.
    pub x2apic: bool,
    /// APIC ID: 8 bits in xAPIC mode.
    pub id: u32,
    /// Logical ID register: as read, in either mode.
    pub ldr: u32,
    /// xAPIC: the cluster model is selected by the DFR.
    pub cluster: bool,
}

impl Address {
    /// Whether a message with this destination is for this APIC; shorthands are the caller's.
    #[must_use]
    pub fn matches(&self, destination: Destination) -> bool {
        if !self.enabled {
            return false;
        }
        match destination {
            Destination::Physical { id: 0xFF, .. } if !self.x2apic => true,
            Destination::Physical { id: 0xFF, byte: true } => true,
            Destination::Physical { id: u32::MAX, .. } if self.x2apic => true,
            Destination::Physical { id, .. } => id == self.id,
            Destination::Logical { mda } if self.x2apic => {
                mda >> 16 == self.ldr >> 16 && mda & self.ldr & 0xFFFF != 0
            }
            Destination::Logical { mda } => {
                let logical_id = self.ldr >> 24;
                if self.cluster {
                    let same = mda >> 4 == logical_id >> 4 || mda >> 4 == 0xF;
                    same && mda & logical_id & 0xF != 0
                } else {
                    mda <= 0xFF && mda & logical_id != 0
                }
            }
            Destination::Itself | Destination::All | Destination::Others => true,
        }
    }
}

/// Logical ID that an APIC has in x2APIC mode.
#[must_use]
pub const fn x2apic_ldr(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 0xF)
}
