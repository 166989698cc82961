//! The architectural registers of one processor, and their reset values.
//!
//! SDM volume 3, "Processor State After Reset". Everything here is plain data that can be copied:
//! an instruction that changes much and may fault late works on the registers and puts the copy
//! back.

use cpu_defs::{Gpr, SegReg, attrib, cr0, dr6, dr7, msr, rflags};

use crate::int::{RIP, SLOTS};

/// A segment register with its cached descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Visible selector.
    pub selector: u16,
    /// Access rights in the VMX layout.
    pub attrib: u16,
    /// Loaded with a null selector, or never.
    pub unusable: bool,
    /// Limit in bytes, granularity applied.
    pub limit: u32,
    /// Linear base.
    pub base: u64,
}

impl Segment {
    /// The DPL field.
    #[must_use]
    pub const fn dpl(&self) -> u8 {
        (self.attrib >> attrib::DPL_SHIFT) as u8 & 3
    }

    /// A segment as real mode loads it, keeping limit and rights of `self`.
    #[must_use]
    pub const fn with_real_selector(self, selector: u16) -> Self {
        Segment { selector, base: (selector as u64) << 4, unusable: false, ..self }
    }

    const fn at_reset(attrib: u16) -> Self {
        Segment { selector: 0, attrib, unusable: false, limit: 0xFFFF, base: 0 }
    }
}

/// Interrupts that the instruction before keeps out for one more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Shadow {
    /// None.
    #[default]
    None,
    /// After STI: no external interrupt or NMI.
    Sti,
    /// After MOV SS or POP SS: no debug trap either.
    MovSs,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Linear base.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u16,
}

/// The MSRs that are plain storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub struct Msrs {
    pub apic_base: u64,
    pub tsc_adjust: u64,
    pub pat: u64,
    pub bios_sign_id: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub tsc_aux: u64,
    pub xss: u64,
    pub smbase: u64,
}

/// The registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub struct Arch {
    /// General registers and RIP by slot, see [`crate::int`].
    pub slots: [u64; SLOTS],
    pub rflags: u64,
    /// By [`SegReg`].
    pub seg: [Segment; 8],
    pub gdtr: Table,
    pub idtr: Table,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub cr8: u64,
    pub efer: u64,
    pub xcr0: u64,
    /// Rights of protection keys; written by [`crate::Cpu::set_pkru`].
    pub pkru: u32,
    pub dr: [u64; 4],
    pub dr6: u64,
    pub dr7: u64,
    /// PDPTE registers of PAE paging.
    pub pdptes: [u64; 4],
    pub msrs: Msrs,
    /// Current privilege level.
    pub cpl: u8,
    /// No interrupt before the next instruction.
    pub shadow: Shadow,
    /// Causes of #DB traps, as bits of DR6, that wait for the next instruction boundary.
    pub pending_debug: u64,
    /// An NMI handler has not yet executed IRET.
    pub nmi_blocked: bool,
    /// In system management mode.
    pub smm: bool,
    /// NMIs were blocked when system management mode was entered.
    pub smm_inside_nmi: bool,
}

impl Arch {
    /// State after power-up of the bootstrap processor.
    #[must_use]
    pub fn power_on() -> Self {
        let data = Segment::at_reset(0x93);
        let mut seg = [data; 8];
        seg[SegReg::Cs as usize] =
            Segment { selector: 0xF000, base: 0xFFFF_0000, ..Segment::at_reset(0x9B) };
        seg[SegReg::Ldtr as usize] = Segment::at_reset(0x82);
        seg[SegReg::Tr as usize] = Segment::at_reset(0x8B);
        let table = Table { base: 0, limit: 0xFFFF };
        let mut slots = [0; SLOTS];
        slots[Gpr::Rdx as usize] = 0x600;
        slots[usize::from(RIP)] = 0xFFF0;
        Arch {
            slots,
            rflags: rflags::FIXED_ONE,
            seg,
            gdtr: table,
            idtr: table,
            cr0: cr0::CD | cr0::NW | cr0::ET,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            efer: 0,
            xcr0: 1,
            pkru: 0,
            dr: [0; 4],
            dr6: dr6::FIXED_ONE,
            dr7: dr7::FIXED_ONE,
            pdptes: [0; 4],
            msrs: Msrs::at_reset(),
            cpl: 0,
            shadow: Shadow::None,
            pending_debug: 0,
            nmi_blocked: false,
            smm: false,
            smm_inside_nmi: false,
        }
    }

    /// State after INIT: as after power-up, but CR0.CD and CR0.NW, the MSRs and PKRU are
    /// kept.
    #[must_use]
    pub fn after_init(&self) -> Self {
        let reset = Self::power_on();
        let kept = cr0::CD | cr0::NW;
        Arch {
            cr0: (reset.cr0 & !kept) | (self.cr0 & kept),
            msrs: self.msrs,
            xcr0: self.xcr0,
            pkru: self.pkru,
            ..reset
        }
    }

    /// RIP.
    #[inline(always)]
    #[must_use]
    pub fn rip(&self) -> u64 {
        self.slots[usize::from(RIP)]
    }

    /// Sets RIP.
    #[inline(always)]
    pub fn set_rip(&mut self, value: u64) {
        self.slots[usize::from(RIP)] = value;
    }

    /// A general register.
    #[inline(always)]
    #[must_use]
    pub fn gpr(&self, gpr: Gpr) -> u64 {
        self.slots[gpr as usize]
    }

    /// Sets a general register.
    #[inline(always)]
    pub fn set_gpr(&mut self, gpr: Gpr, value: u64) {
        self.slots[gpr as usize] = value;
    }

    /// The CPL that belongs to CR0.PE, RFLAGS.VM and SS, as VMX and SVM have it.
    #[must_use]
    pub fn implied_cpl(&self) -> u8 {
        if self.cr0 & cr0::PE == 0 {
            0
        } else if self.rflags & rflags::VM != 0 {
            3
        } else {
            self.segment(SegReg::Ss).dpl()
        }
    }

    /// A segment register.
    #[inline(always)]
    #[must_use]
    pub fn segment(&self, reg: SegReg) -> &Segment {
        &self.seg[reg as usize]
    }
}

impl Msrs {
    fn at_reset() -> Self {
        Msrs {
            apic_base: msr::APIC_BASE_RESET,
            tsc_adjust: 0,
            pat: msr::PAT_RESET,
            bios_sign_id: 0,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            star: 0,
            lstar: 0,
            cstar: 0,
            sfmask: 0,
            kernel_gs_base: 0,
            tsc_aux: 0,
            xss: 0,
            smbase: msr::SMBASE_RESET,
        }
    }
}
