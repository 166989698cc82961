//! Registers and MSRs as the host reads and writes them.
//!
//! The host may set any value a register can hold here, in any order; whether the whole is consistent
//! is asked by `check_entry`. The CPL is that of SS, as in VMX and SVM.

use cpu_defs::{Reg, SegField, TableField, attrib, cr0, dr6, dr7, msr, rflags};
use cpu_interp::state::{Segment, Table};
use cpu_interp::xstate::is_xcr0;
use cpu_interp::{Features, MsrRefusal, Origin};

use crate::{MsrError, PlatformMsrs, RegError, Vcpu, XsaveError};

/// Bits of the attribute field: rights, and unusable.
const ATTRIB_BITS: u64 = 0x1_F0FF;

impl Vcpu {
    /// A register's value.
    #[must_use]
    pub fn reg(&self, reg: Reg) -> u64 {
        let arch = &self.cpu().arch;
        match reg {
            Reg::Gpr(gpr) => arch.gpr(gpr),
            Reg::Rip => arch.rip(),
            Reg::Rflags => arch.rflags,
            Reg::Segment(segment, field) => segment_field(arch.segment(segment), field),
            Reg::Gdtr(field) => table_field(&arch.gdtr, field),
            Reg::Idtr(field) => table_field(&arch.idtr, field),
            Reg::Dr0 => arch.dr[0],
            Reg::Dr1 => arch.dr[1],
            Reg::Dr2 => arch.dr[2],
            Reg::Dr3 => arch.dr[3],
            Reg::Dr6 => arch.dr6,
            Reg::Dr7 => arch.dr7,
            Reg::Cr0 => arch.cr0,
            Reg::Cr2 => arch.cr2,
            Reg::Cr3 => arch.cr3,
            Reg::Cr4 => arch.cr4,
            Reg::Cr8 => arch.cr8,
            Reg::Xcr0 => arch.xcr0,
            Reg::Pdpte(index) => self.pdptes()[usize::from(index % 4)],
        }
    }

    /// Whether a register can have a value: [`Self::set_reg`] takes it.
    #[must_use]
    pub fn takes(&self, reg: Reg, value: u64) -> bool {
        holds(reg, value, &self.cpu().features)
    }

    /// Sets a register. Fixed bits of RFLAGS, CR0.ET, DR6 and DR7 take their fixed values.
    ///
    /// # Errors
    /// [`RegError`]: the value has bits that the register does not have; nothing changed.
    pub fn set_reg(&mut self, reg: Reg, value: u64) -> Result<(), RegError> {
        let features = &self.cpu().features;
        if !holds(reg, value, features) {
            return Err(RegError { reg, value });
        }
        let cpu = self.cpu_mut();
        let arch = &mut cpu.arch;
        match reg {
            Reg::Gpr(gpr) => arch.set_gpr(gpr, value),
            Reg::Rip => arch.set_rip(value),
            Reg::Rflags => arch.rflags = (value & rflags::DEFINED) | rflags::FIXED_ONE,
            Reg::Segment(segment, field) => {
                set_segment_field(&mut arch.seg[segment as usize], field, value);
            }
            Reg::Gdtr(field) => set_table_field(&mut arch.gdtr, field, value),
            Reg::Idtr(field) => set_table_field(&mut arch.idtr, field, value),
            Reg::Dr0 => arch.dr[0] = value,
            Reg::Dr1 => arch.dr[1] = value,
            Reg::Dr2 => arch.dr[2] = value,
            Reg::Dr3 => arch.dr[3] = value,
            Reg::Dr6 => arch.dr6 = value | dr6::FIXED_ONE,
            Reg::Dr7 => arch.dr7 = value | dr7::FIXED_ONE,
            Reg::Cr0 => arch.cr0 = value | cr0::ET,
            Reg::Cr2 => arch.cr2 = value,
            Reg::Cr3 => arch.cr3 = value,
            Reg::Cr4 => arch.cr4 = value,
            Reg::Cr8 => arch.cr8 = value,
            Reg::Xcr0 => arch.xcr0 = value,
            Reg::Pdpte(index) => arch.pdptes[usize::from(index % 4)] = value,
        }
        self.after_host_write(reg);
        Ok(())
    }

    /// The PDPTE registers; what AMD's processor, which has none, finds in memory.
    fn pdptes(&self) -> [u64; 4] {
        let cpu = self.cpu();
        let to_be_loaded = self.paging_changed && !self.pdptes_given;
        let in_memory = to_be_loaded || cpu.features.amd;
        let loaded = if in_memory { cpu.pdptes_in_memory() } else { None };
        loaded.unwrap_or(cpu.arch.pdptes)
    }

    fn after_host_write(&mut self, reg: Reg) {
        match reg {
            Reg::Cr0 | Reg::Cr3 | Reg::Cr4 => {
                self.paging_changed = true;
                self.pdptes_given = false;
            }
            Reg::Pdpte(_) => {
                self.paging_changed = true;
                self.pdptes_given = true;
            }
            Reg::Segment(..) | Reg::Rflags => {}
            Reg::Dr0 | Reg::Dr1 | Reg::Dr2 | Reg::Dr3 | Reg::Dr7 => {
                return self.cpu_mut().refresh_breakpoints();
            }
            _ => return,
        }
        let paging_changed = self.paging_changed;
        let cpu = self.cpu_mut();
        cpu.arch.cpl = cpu.arch.implied_cpl();
        if paging_changed {
            cpu.refresh_paging();
        } else {
            cpu.refresh();
        }
    }

    /// Makes these MSRs leave the guest as `Exit::Msr` with [`crate::MsrReason::Platform`], and no
    /// others.
    pub fn set_platform_msrs(&mut self, msrs: PlatformMsrs) {
        self.cpu_mut().platform_msrs = msrs;
    }

    /// Whether the filter of the host's rules lets the guest touch an MSR.
    #[must_use]
    pub fn filter_allows(&self, index: u32, write: bool) -> bool {
        self.cpu().msr_rules.allow(index, write)
    }

    /// An MSR's value.
    ///
    /// # Errors
    /// [`MsrError::Unknown`].
    pub fn msr(&self, index: u32) -> Result<u64, MsrError> {
        self.cpu().read_msr(index, Origin::Host).map_err(|_| MsrError::Unknown(index))
    }

    /// Sets an MSR. EFER takes LMA as given, unlike WRMSR.
    ///
    /// # Errors
    /// [`MsrError`]; nothing changed.
    pub fn set_msr(&mut self, index: u32, value: u64) -> Result<(), MsrError> {
        self.cpu_mut().write_msr(index, value, Origin::Host).map_err(|refusal| match refusal {
            MsrRefusal::Unknown => MsrError::Unknown(index),
            MsrRefusal::Invalid => MsrError::Invalid(index, value),
        })?;
        self.paging_changed |= index == msr::EFER;
        Ok(())
    }

    /// The x87 and SSE registers in the layout of FXSAVE64.
    #[must_use]
    pub fn fxsave(&self) -> [u8; 512] {
        self.cpu().fpu.fxsave()
    }

    /// Sets the x87 and SSE registers from the layout of FXSAVE64. Reserved bits of MXCSR are
    /// dropped.
    pub fn fxrstor(&mut self, image: &[u8; 512]) {
        self.cpu_mut().fpu.fxrstor(image);
    }

    /// Everything that XSAVE manages, in the standard format of the host's XSAVE64, whatever XCR0
    /// says. XSTATE_BV names what is not in its initial configuration.
    #[must_use]
    pub fn xsave(&self) -> Vec<u8> {
        self.cpu().xsave()
    }

    /// Sets everything that XSAVE manages. What XSTATE_BV does not name gets its initial
    /// configuration.
    ///
    /// # Errors
    /// [`XsaveError`]; nothing changed.
    pub fn xrstor(&mut self, area: &[u8]) -> Result<(), XsaveError> {
        self.cpu_mut().xrstor(area)
    }
}

fn holds(reg: Reg, value: u64, features: &Features) -> bool {
    match reg {
        Reg::Segment(_, SegField::Selector) => value <= 0xFFFF,
        Reg::Segment(_, SegField::Attrib) => value & !ATTRIB_BITS == 0,
        Reg::Segment(_, SegField::Limit) => value <= 0xFFFF_FFFF,
        Reg::Gdtr(TableField::Limit) | Reg::Idtr(TableField::Limit) => value <= 0xFFFF,
        Reg::Cr4 => value & !features.cr4 == 0,
        Reg::Cr8 => value <= 15,
        Reg::Xcr0 => is_xcr0(value, features.xcr0),
        _ => true,
    }
}

fn segment_field(segment: &Segment, field: SegField) -> u64 {
    match field {
        SegField::Selector => u64::from(segment.selector),
        SegField::Attrib => {
            let unusable = if segment.unusable { attrib::UNUSABLE } else { 0 };
            u64::from(u32::from(segment.attrib) | unusable)
        }
        SegField::Limit => u64::from(segment.limit),
        SegField::Base => segment.base,
    }
}

fn set_segment_field(segment: &mut Segment, field: SegField, value: u64) {
    match field {
        SegField::Selector => segment.selector = value as u16,
        SegField::Attrib => {
            segment.attrib = value as u16;
            segment.unusable = value & u64::from(attrib::UNUSABLE) != 0;
        }
        SegField::Limit => segment.limit = value as u32,
        SegField::Base => segment.base = value,
    }
}

fn table_field(table: &Table, field: TableField) -> u64 {
    match field {
        TableField::Limit => u64::from(table.limit),
        TableField::Base => table.base,
    }
}

fn set_table_field(table: &mut Table, field: TableField, value: u64) {
    match field {
        TableField::Limit => table.limit = value as u16,
        TableField::Base => table.base = value,
    }
}
