//! Bits of the control and debug registers and of EFER.

/// CR0.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod cr0 {
    pub const PE: u64 = 1 << 0;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
    /// Every defined bit.
    pub const DEFINED: u64 = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG;
}

/// CR4.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod cr4 {
    pub const VME: u64 = 1 << 0;
    pub const PVI: u64 = 1 << 1;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const UMIP: u64 = 1 << 11;
    pub const LA57: u64 = 1 << 12;
    pub const VMXE: u64 = 1 << 13;
    pub const SMXE: u64 = 1 << 14;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
    pub const PKE: u64 = 1 << 22;
}

/// EFER.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod efer {
    pub const SCE: u64 = 1 << 0;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
    pub const SVME: u64 = 1 << 12;
    pub const FFXSR: u64 = 1 << 14;
}

/// DR6.
pub mod dr6 {
    /// Bits that read as one.
    pub const FIXED_ONE: u64 = 0xFFFF_0FF0;
    /// B0 to B3: breakpoint conditions met.
    pub const BREAKPOINTS: u64 = 0xF;
    /// Bits that can be written.
    pub const WRITABLE: u64 = BREAKPOINTS | BD | BS | BT;
    /// Debug-register access detected.
    pub const BD: u64 = 1 << 13;
    /// Single step.
    pub const BS: u64 = 1 << 14;
    /// Task switch to a TSS with the T flag.
    pub const BT: u64 = 1 << 15;
}

/// DR7.
pub mod dr7 {
    /// Bits that read as one.
    pub const FIXED_ONE: u64 = 0x400;
    /// L0 to L3 and LE: cleared by a task switch.
    pub const LOCAL: u64 = 0x155;
    /// Shift of R/W0 and LEN0; those of the next breakpoint are 4 bits further.
    pub const RW_SHIFT: u32 = 16;
    /// General detect: MOV to or from a debug register raises #DB.
    pub const GD: u64 = 1 << 13;
    /// Bits that can be written.
    pub const WRITABLE: u64 = 0xFFFF_2BFF;
}
