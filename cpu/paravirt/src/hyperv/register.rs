//! Names of a processor's registers in HvCallGetVpRegisters and HvCallSetVpRegisters: TLFS,
//! "HV_REGISTER_NAME", "HV_REGISTER_VALUE". Values have 128 bits.

use cpu_defs::msr::{self as x86, IA32_MTRR_PHYSBASE0};
use cpu_defs::{Gpr, Reg, SegReg};

use super::cpuid;
use super::msr;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// A register of 64 bits.
    Word(Reg),
    /// HV_X64_SEGMENT_REGISTER.
    Segment(SegReg),
    /// HV_X64_TABLE_REGISTER.
    Gdtr,
    /// HV_X64_TABLE_REGISTER.
    Idtr,
    /// XMM0 to XMM15.
    Xmm(u8),
    /// An MSR of the processor.
    Msr(u32),
    /// A synthetic MSR.
    Synthetic(u32),
    /// EAX, EBX, ECX and EDX of a leaf of CPUID.
    Leaf(u32),
}

/// By place from the first name of a group on.
const CONTROL: [Reg; 6] = [Reg::Cr0, Reg::Cr2, Reg::Cr3, Reg::Cr4, Reg::Cr8, Reg::Xcr0];
const DEBUG: [Reg; 6] = [Reg::Dr0, Reg::Dr1, Reg::Dr2, Reg::Dr3, Reg::Dr6, Reg::Dr7];
const MSRS: [u32; 12] = [
    x86::IA32_TSC,
    x86::EFER,
    x86::KERNEL_GS_BASE,
    x86::IA32_APIC_BASE,
    x86::IA32_PAT,
    x86::IA32_SYSENTER_CS,
    x86::IA32_SYSENTER_EIP,
    x86::IA32_SYSENTER_ESP,
    x86::STAR,
    x86::LSTAR,
    x86::CSTAR,
    x86::SFMASK,
];
const FIXED_RANGES: [u32; 11] = {
    let (k16, k4) = (x86::IA32_MTRR_FIX16K_80000, x86::IA32_MTRR_FIX4K_C0000);
    let k64 = x86::IA32_MTRR_FIX64K_00000;
    [k64, k16, k16 + 1, k4, k4 + 1, k4 + 2, k4 + 3, k4 + 4, k4 + 5, k4 + 6, k4 + 7]
};

impl Register {
    /// By its name; None: it is none of an x64 processor without virtual trust levels.
    #[must_use]
    pub fn named(name: u32) -> Option<Register> {
        let place = (name & 0xFFF) as usize;
        match name {
            0x0100 => Some(Register::Leaf(cpuid::VERSION)),
            0x0200..=0x0202 => Some(Register::Leaf(cpuid::FEATURES + (name & 3))),
            0x0210..=0x0215 => Some(Register::Synthetic(msr::CRASH_P0 + (name & 7))),
            0x0240 => Some(Register::Synthetic(msr::TSC_FREQUENCY)),
            0x0241 => Some(Register::Synthetic(msr::APIC_FREQUENCY)),
            0x0002_0000..=0x0002_000F => Some(Register::Word(Reg::Gpr(Gpr::ALL[place]))),
            0x0002_0010 => Some(Register::Word(Reg::Rip)),
            0x0002_0011 => Some(Register::Word(Reg::Rflags)),
            0x0003_0000..=0x0003_000F => Some(Register::Xmm(place as u8)),
            0x0004_0000..=0x0004_0005 => Some(Register::Word(CONTROL[place])),
            0x0005_0000..=0x0005_0005 => Some(Register::Word(DEBUG[place])),
            0x0006_0000..=0x0006_0007 => Some(Register::Segment(SegReg::ALL[place])),
            0x0007_0000 => Some(Register::Idtr),
            0x0007_0001 => Some(Register::Gdtr),
            0x0008_0000..=0x0008_FFFF => msr_named(name & 0xFFFF).map(Register::Msr),
            0x0009_0000..=0x0009_FFFF => synthetic_named(name & 0xFFFF).map(Register::Synthetic),
            _ => None,
        }
    }

    /// Which MSR it is.
    #[must_use]
    pub const fn msr(self) -> Option<u32> {
        match self {
            Register::Msr(index) | Register::Synthetic(index) => Some(index),
            _ => None,
        }
    }

    /// Whether it cannot be set: of MSRs those that the guest cannot write, or only so that others hear
    /// of it.
    #[must_use]
    pub const fn is_read_only(self) -> bool {
        match self {
            Register::Leaf(_) => true,
            Register::Msr(index) => matches!(
                index,
                x86::IA32_MTRRCAP
                    | x86::IA32_APIC_BASE
                    | x86::IA32_MISC_ENABLE
                    | x86::IA32_FEAT_CTL
            ),
            _ => false,
        }
    }
}

fn msr_named(place: u32) -> Option<u32> {
    match place {
        0x00..=0x0B => Some(MSRS[place as usize]),
        0x0D => Some(x86::IA32_MTRRCAP),
        0x0E => Some(x86::IA32_MTRR_DEF_TYPE),
        0x10..=0x1F => Some(IA32_MTRR_PHYSBASE0 + 2 * (place - 0x10)),
        0x40..=0x4F => Some(IA32_MTRR_PHYSBASE0 + 2 * (place - 0x40) + 1),
        0x70..=0x7A => Some(FIXED_RANGES[(place - 0x70) as usize]),
        0x7B => Some(x86::TSC_AUX),
        0x7D => Some(x86::IA32_DEBUGCTL),
        0xA0 => Some(x86::IA32_MISC_ENABLE),
        0xA1 => Some(x86::IA32_FEAT_CTL),
        _ => None,
    }
}

fn synthetic_named(place: u32) -> Option<u32> {
    match place {
        0x00 => Some(msr::VP_RUNTIME),
        0x01 => Some(msr::HYPERCALL),
        0x02 => Some(msr::GUEST_OS_ID),
        0x03 => Some(msr::VP_INDEX),
        0x04 => Some(msr::TIME_REF_COUNT),
        0x13 => Some(msr::VP_ASSIST_PAGE),
        0x17 => Some(msr::REFERENCE_TSC),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hv_47_registers_have_their_names() {
        for (name, register) in [
            (0x0002_0003, Register::Word(Reg::Gpr(Gpr::Rbx))),
            (0x0002_000F, Register::Word(Reg::Gpr(Gpr::R15))),
            (0x0004_0004, Register::Word(Reg::Cr8)),
            (0x0005_0004, Register::Word(Reg::Dr6)),
            (0x0006_0002, Register::Segment(SegReg::Ss)),
            (0x0006_0007, Register::Segment(SegReg::Tr)),
            (0x0008_0007, Register::Msr(x86::IA32_SYSENTER_ESP)),
            (0x0008_001F, Register::Msr(0x21E)),
            (0x0008_0040, Register::Msr(0x201)),
            (0x0008_007A, Register::Msr(0x26F)),
            (0x0000_0215, Register::Synthetic(msr::CRASH_CTL)),
            (0x0000_0202, Register::Leaf(cpuid::LIMITS)),
        ] {
            assert_eq!(Register::named(name), Some(register), "{name:#x}");
        }
    }

    #[test]
    fn hv_47_registers_beside_them_are_none() {
        for name in [0, 1, 0x203, 0x216, 0x2_0012, 0x3_0010, 0x4_0006, 0x5_0006, 0x6_0008, 0x7_0002]
        {
            assert_eq!(Register::named(name), None, "{name:#x}");
        }
        for name in [0x8_000C, 0x8_0020, 0x8_007C, 0x9_0005, 0x9_0010, 0xA_0000, 0xD_0002, !0] {
            assert_eq!(Register::named(name), None, "{name:#x}");
        }
    }
}
