//! Register numbers (offset divided by 16; in x2APIC mode, MSR number minus 800H) and fields.
//!
//! SDM volume 3, "Local APIC Registers" and "x2APIC Register Address Space".

#![allow(missing_docs, reason = "the names are the manual's")]

pub const ID: u8 = 0x02;
pub const VERSION: u8 = 0x03;
pub const TPR: u8 = 0x08;
pub const APR: u8 = 0x09;
pub const PPR: u8 = 0x0A;
pub const EOI: u8 = 0x0B;
pub const RRD: u8 = 0x0C;
pub const LDR: u8 = 0x0D;
pub const DFR: u8 = 0x0E;
pub const SVR: u8 = 0x0F;
pub const ISR: u8 = 0x10;
pub const TMR: u8 = 0x18;
pub const IRR: u8 = 0x20;
pub const ESR: u8 = 0x28;
pub const LVT_CMCI: u8 = 0x2F;
pub const ICR_LOW: u8 = 0x30;
pub const ICR_HIGH: u8 = 0x31;
pub const LVT_TIMER: u8 = 0x32;
pub const LVT_THERMAL: u8 = 0x33;
pub const LVT_PMC: u8 = 0x34;
pub const LVT_LINT0: u8 = 0x35;
pub const LVT_LINT1: u8 = 0x36;
pub const LVT_ERROR: u8 = 0x37;
pub const TIMER_INITIAL: u8 = 0x38;
pub const TIMER_CURRENT: u8 = 0x39;
pub const TIMER_DIVIDE: u8 = 0x3E;
pub const SELF_IPI: u8 = 0x3F;

/// Spurious-interrupt vector register: the APIC is software-enabled.
pub const SVR_ENABLED: u32 = 1 << 8;
/// Spurious-interrupt vector register: no EOI broadcasts.
pub const SVR_SUPPRESS_EOI_BROADCAST: u32 = 1 << 12;
/// Local vector table entry: level-triggered.
pub const LVT_LEVEL: u32 = 1 << 15;
/// Local vector table entry: masked.
pub const LVT_MASKED: u32 = 1 << 16;
/// Interrupt command register: delivery status.
pub const ICR_BUSY: u32 = 1 << 12;

/// Bits of IA32_APIC_BASE.
pub mod base {
    pub const BSP: u64 = 1 << 8;
    pub const X2APIC: u64 = 1 << 10;
    pub const ENABLED: u64 = 1 << 11;
}

/// Bits of the error status register.
pub mod error {
    pub const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
    pub const RECEIVED_ILLEGAL_VECTOR: u32 = 1 << 6;
    pub const ILLEGAL_REGISTER: u32 = 1 << 7;
}
