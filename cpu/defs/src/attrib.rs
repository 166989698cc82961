//! Segment access rights in the VMX layout (SDM volume 3, "Guest Register State").

/// Type field, bits 3:0.
pub const TYPE: u16 = 0x000F;
/// Type bit 0 of a code or data segment: accessed.
pub const ACCESSED: u16 = 0x0001;
/// Type bit 1 of a data segment: writable; of a code segment: readable.
pub const WRITE_READ: u16 = 0x0002;
/// Type bit 2 of a data segment: expand-down; of a code segment: conforming.
pub const DOWN_CONFORMING: u16 = 0x0004;
/// Type bit 3: code segment.
pub const CODE: u16 = 0x0008;
/// S: code or data (1) or system (0) segment.
pub const S: u16 = 0x0010;
/// DPL, bits 6:5.
pub const DPL_SHIFT: u32 = 5;
/// P: present.
pub const P: u16 = 0x0080;
/// AVL: available to software.
pub const AVL: u16 = 0x1000;
/// L: 64-bit code segment.
pub const L: u16 = 0x2000;
/// D/B: default operation size or stack width.
pub const DB: u16 = 0x4000;
/// G: limit in units of 4 KiB.
pub const G: u16 = 0x8000;
/// The register holds a null selector; carried in bit 16 of the VMX field.
pub const UNUSABLE: u32 = 0x1_0000;
/// Every right.
pub const RIGHTS: u16 = TYPE | S | 3 << DPL_SHIFT | P | AVL | L | DB | G;

/// System segment and gate types, 32-bit and 16-bit forms.
pub mod system_type {
    /// Available 16-bit TSS.
    pub const TSS16_AVAILABLE: u8 = 1;
    /// LDT.
    pub const LDT: u8 = 2;
    /// Busy 16-bit TSS.
    pub const TSS16_BUSY: u8 = 3;
    /// 16-bit call gate.
    pub const CALL_GATE16: u8 = 4;
    /// Task gate.
    pub const TASK_GATE: u8 = 5;
    /// 16-bit interrupt gate.
    pub const INTERRUPT_GATE16: u8 = 6;
    /// 16-bit trap gate.
    pub const TRAP_GATE16: u8 = 7;
    /// Available 32-bit or 64-bit TSS.
    pub const TSS_AVAILABLE: u8 = 9;
    /// Busy 32-bit or 64-bit TSS.
    pub const TSS_BUSY: u8 = 11;
    /// 32-bit or 64-bit call gate.
    pub const CALL_GATE: u8 = 12;
    /// 32-bit or 64-bit interrupt gate.
    pub const INTERRUPT_GATE: u8 = 14;
    /// 32-bit or 64-bit trap gate.
    pub const TRAP_GATE: u8 = 15;
}
