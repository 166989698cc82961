//! What the registers mean together: operating mode, privilege, code and stack size.
//!
//! Derived state. [`crate::Cpu::refresh`] computes it anew after a change of CR0, CR4, EFER,
//! RFLAGS.VM or AC, CPL or a segment register.

use cpu_defs::{SegReg, attrib, cr0, cr4, efer, rflags};
use cpu_mmu::{Privilege, is_canonical};

use crate::state::{Arch, Segment};

/// The present operating mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// CR0.PE.
    pub protected: bool,
    /// Virtual-8086 mode.
    pub v86: bool,
    /// EFER.LMA.
    pub long: bool,
    /// Linear addresses have 57 bits, not 48.
    pub la57: bool,
    /// 64-bit code segment in long mode.
    pub code64: bool,
    /// Default operand and address size of code: 16, 32 or 64.
    pub code_bits: u8,
    /// Mask of the stack pointer: 16, 32 or 64 bits.
    pub stack_mask: u64,
    /// Privilege of explicit memory accesses.
    pub privilege: Privilege,
    /// Privilege of instruction fetches: AC does not count.
    pub fetch_privilege: Privilege,
    /// What decoded code and its translation depend on, as a key.
    pub key: u32,
    /// Per segment register, what [`Rights`] allow.
    pub rights: [u8; 8],
}

/// Bits of [`Mode::rights`].
pub struct Rights;

impl Rights {
    /// Loads are allowed.
    pub const READ: u8 = 1;
    /// Stores are allowed.
    pub const WRITE: u8 = 2;
    /// The limit is an upper bound (not an expand-down segment).
    pub const UP: u8 = 4;
}

impl Mode {
    /// Of these registers.
    #[must_use]
    pub fn of(arch: &Arch) -> Self {
        let checked = is_checked(arch);
        Self::with_rights(arch, arch.seg.map(|segment| rights(&segment, checked)))
    }

    /// As [`Self::of`], if only CS, SS, CPL and RFLAGS are others than those that this is of.
    #[must_use]
    pub(crate) fn with_code_and_stack(&self, arch: &Arch) -> Self {
        let checked = is_checked(arch);
        if checked != self.has_descriptors() {
            return Self::of(arch);
        }
        let mut all = self.rights;
        for reg in [SegReg::Cs, SegReg::Ss] {
            all[reg as usize] = rights(arch.segment(reg), checked);
        }
        Self::with_rights(arch, all)
    }

    fn with_rights(arch: &Arch, rights: [u8; 8]) -> Self {
        let protected = arch.cr0 & cr0::PE != 0;
        let v86 = protected && arch.rflags & rflags::VM != 0;
        let long = arch.efer & efer::LMA != 0;
        let cs = arch.segment(SegReg::Cs).attrib;
        let code64 = long && cs & attrib::L != 0;
        let code_bits = match (code64, cs & attrib::DB != 0) {
            (true, _) => 64,
            (false, true) => 32,
            (false, false) => 16,
        };
        let stack_mask = match (code64, arch.segment(SegReg::Ss).attrib & attrib::DB != 0) {
            (true, _) => u64::MAX,
            (false, true) => 0xFFFF_FFFF,
            (false, false) => 0xFFFF,
        };
        // Only SMAP looks at AC; without it one set of translations is enough.
        let ac = arch.rflags & rflags::AC != 0 && arch.cr4 & cr4::SMAP != 0;
        let fetch_privilege = Privilege::explicit(arch.cpl, false);
        let aligned = arch.cpl == 3 && arch.cr0 & cr0::AM != 0 && arch.rflags & rflags::AC != 0;
        Mode {
            protected,
            v86,
            long,
            la57: long && arch.cr4 & cr4::LA57 != 0,
            code64,
            code_bits,
            stack_mask,
            privilege: if aligned {
                Privilege::UserAligned
            } else {
                Privilege::explicit(arch.cpl, ac)
            },
            fetch_privilege,
            key: u32::from(code_bits) | (fetch_privilege as u32) << 8,
            rights,
        }
    }

    /// Whether 64-bit code can use a linear address.
    #[inline(always)]
    #[must_use]
    pub const fn is_canonical(&self, gla: u64) -> bool {
        is_canonical(gla, self.la57)
    }

    /// Protected mode and not virtual-8086: selectors name descriptors.
    #[must_use]
    pub const fn has_descriptors(&self) -> bool {
        self.protected && !self.v86
    }
}

/// Accesses are checked against segments.
fn is_checked(arch: &Arch) -> bool {
    arch.cr0 & cr0::PE != 0 && arch.rflags & rflags::VM == 0
}

fn rights(segment: &Segment, checked: bool) -> u8 {
    if !checked {
        return Rights::READ | Rights::WRITE | Rights::UP;
    }
    if segment.unusable {
        return 0;
    }
    RIGHTS[usize::from(segment.attrib & TYPE)]
}

/// The type field of a code or data segment.
const TYPE: u16 = attrib::CODE | attrib::DOWN_CONFORMING | attrib::WRITE_READ | 1;

/// By type: modes change with each exception.
const RIGHTS: [u8; 16] = {
    let mut all = [0; 16];
    let mut kind = 0;
    while kind < 16 {
        let code = kind as u16 & attrib::CODE != 0;
        let second = kind as u16 & attrib::WRITE_READ != 0;
        let down = !code && kind as u16 & attrib::DOWN_CONFORMING != 0;
        if !code || second {
            all[kind] |= Rights::READ;
        }
        if !code && second {
            all[kind] |= Rights::WRITE;
        }
        if !down {
            all[kind] |= Rights::UP;
        }
        kind += 1;
    }
    all
};

const _: () = assert!(TYPE == 15);
