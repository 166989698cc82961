//! Register names as seen from outside a virtual CPU.

/// General-purpose register, numbered as in ModRM and REX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub enum Gpr {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    Rbx = 3,
    Rsp = 4,
    Rbp = 5,
    Rsi = 6,
    Rdi = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
    R11 = 11,
    R12 = 12,
    R13 = 13,
    R14 = 14,
    R15 = 15,
}

impl Gpr {
    /// All general-purpose registers in numeric order.
    pub const ALL: [Gpr; 16] = [
        Gpr::Rax,
        Gpr::Rcx,
        Gpr::Rdx,
        Gpr::Rbx,
        Gpr::Rsp,
        Gpr::Rbp,
        Gpr::Rsi,
        Gpr::Rdi,
        Gpr::R8,
        Gpr::R9,
        Gpr::R10,
        Gpr::R11,
        Gpr::R12,
        Gpr::R13,
        Gpr::R14,
        Gpr::R15,
    ];
}

/// Segment register; the first six are numbered as in the Sreg field of ModRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub enum SegReg {
    Es = 0,
    Cs = 1,
    Ss = 2,
    Ds = 3,
    Fs = 4,
    Gs = 5,
    Ldtr = 6,
    Tr = 7,
}

impl SegReg {
    /// All segment registers in numeric order.
    pub const ALL: [SegReg; 8] = [
        SegReg::Es,
        SegReg::Cs,
        SegReg::Ss,
        SegReg::Ds,
        SegReg::Fs,
        SegReg::Gs,
        SegReg::Ldtr,
        SegReg::Tr,
    ];

    /// Those that the Sreg field of ModRM names, in its order.
    pub const SREG: [SegReg; 6] =
        [SegReg::Es, SegReg::Cs, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs];
}

/// Part of a segment register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegField {
    /// Visible selector, 16 bits.
    Selector,
    /// Access rights in the VMX layout, see [`crate::attrib`].
    Attrib,
    /// Limit in bytes (granularity already applied), 32 bits.
    Limit,
    /// Linear base address.
    Base,
}

/// Part of GDTR or IDTR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableField {
    /// Limit in bytes, 16 bits.
    Limit,
    /// Linear base address.
    Base,
}

/// A register that the outside may read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub enum Reg {
    Gpr(Gpr),
    Rip,
    Rflags,
    Segment(SegReg, SegField),
    Gdtr(TableField),
    Idtr(TableField),
    Dr0,
    Dr1,
    Dr2,
    Dr3,
    Dr6,
    Dr7,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Cr8,
    Xcr0,
    /// PDPTE register 0 to 3 of PAE paging.
    Pdpte(u8),
}
