//! Control registers: MOV CR, LMSW, CLTS.
//!
//! SDM volume 3, "Control Registers"; the checks are those of volume 2, "MOV - Move to/from Control
//! Registers".

use cpu_defs::{SegReg, attrib, cr0, cr4, efer};
use cpu_mmu::load_pdptes;
use iced_x86::{Instruction, Mnemonic, OpKind};

use super::system::{ring0, set_system_operand, system_operand};
use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::stop::{Done, gp, ud};

/// With CR4.PCIDE, a write of CR3 with this bit keeps the translations of the new identifier.
const CR3_KEEP: u64 = 1 << 63;
/// A change of these bits loads the PDPTE registers.
const PDPTE_CR0: u64 = cr0::PG | cr0::CD | cr0::NW;
const PDPTE_CR4: u64 = cr4::PGE | cr4::PSE | cr4::PAE | cr4::SMEP;
/// Bits of CR0 that LMSW loads.
const LMSW_BITS: u64 = cr0::PE | cr0::MP | cr0::EM | cr0::TS;

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    let is_cr = |number: u32| {
        let is_register = instruction.op_kind(number) == OpKind::Register;
        is_register && instruction.op_register(number).is_cr()
    };
    Some(match instruction.mnemonic() {
        Mnemonic::Mov if is_cr(0) => mov_to_cr,
        Mnemonic::Mov if is_cr(1) => mov_from_cr,
        Mnemonic::Lmsw => lmsw,
        Mnemonic::Clts => clts,
        _ => return None,
    })
}

fn mov_to_cr(cpu: &mut Cpu, op: &Op) -> Done {
    if !matches!(op.dst, 0 | 2 | 3 | 4 | 8) {
        return ud();
    }
    ring0(cpu)?;
    let value = system_operand(cpu, op.src);
    match op.dst {
        0 => cpu.write_cr0(value),
        2 => {
            cpu.arch.cr2 = value;
            Ok(())
        }
        3 => cpu.write_cr3(value),
        4 => cpu.write_cr4(value),
        _ if value > 15 => gp(0),
        _ => {
            cpu.arch.cr8 = value;
            // An interrupt of a class that was held back may wait.
            cpu.attention |= cpu.watch_interrupt_flag;
            Ok(())
        }
    }
}

fn mov_from_cr(cpu: &mut Cpu, op: &Op) -> Done {
    let value = match op.src {
        0 => cpu.arch.cr0,
        2 => cpu.arch.cr2,
        3 => cpu.arch.cr3,
        4 => cpu.arch.cr4,
        8 => cpu.arch.cr8,
        _ => return ud(),
    };
    ring0(cpu)?;
    set_system_operand(cpu, op.dst, value);
    Ok(())
}

impl Cpu {
    pub(super) fn write_cr0(&mut self, value: u64) -> Done {
        let illegal = value >> 32 != 0
            || (value & cr0::PG != 0 && value & cr0::PE == 0)
            || (value & cr0::NW != 0 && value & cr0::CD == 0);
        if illegal {
            return gp(0);
        }
        let value = (value & cr0::DEFINED) | cr0::ET;
        let paging = value & cr0::PG != 0;
        let was_paging = self.arch.cr0 & cr0::PG != 0;
        let mut new_efer = self.arch.efer;
        if paging && !was_paging && new_efer & efer::LME != 0 {
            let long_code = self.arch.segment(SegReg::Cs).attrib & attrib::L != 0;
            if self.arch.cr4 & cr4::PAE == 0 || long_code {
                return gp(0);
            }
            new_efer |= efer::LMA;
        }
        if !paging && was_paging {
            if self.mode.code64 || self.arch.cr4 & cr4::PCIDE != 0 {
                return gp(0);
            }
            new_efer &= !efer::LMA;
        }
        let concerned = (value ^ self.arch.cr0) & PDPTE_CR0 != 0;
        if paging && concerned && new_efer & efer::LMA == 0 && self.arch.cr4 & cr4::PAE != 0 {
            self.load_pdptes(self.arch.cr3)?;
        }
        self.arch.cr0 = value;
        self.arch.efer = new_efer;
        self.refresh_control();
        Ok(())
    }

    pub(super) fn write_cr3(&mut self, value: u64) -> Done {
        let pcide = self.arch.cr4 & cr4::PCIDE != 0;
        let keep = pcide && value & CR3_KEEP != 0;
        let value = if pcide { value & !CR3_KEEP } else { value };
        if self.mode.long && value >> self.features.max_phy_addr != 0 {
            return gp(0);
        }
        if self.uses_pdptes() {
            self.load_pdptes(value)?;
        }
        self.arch.cr3 = value;
        self.refresh_cr3(keep);
        Ok(())
    }

    pub(super) fn write_cr4(&mut self, value: u64) -> Done {
        let enters_pcid = value & !self.arch.cr4 & cr4::PCIDE != 0;
        let illegal = if self.mode.long {
            let width = (value ^ self.arch.cr4) & cr4::LA57 != 0;
            width || value & cr4::PAE == 0 || (enters_pcid && self.arch.cr3 & 0xFFF != 0)
        } else {
            enters_pcid
        };
        if value & !self.features.cr4 != 0 || illegal {
            return gp(0);
        }
        let paging = self.arch.cr0 & cr0::PG != 0;
        let concerned = (value ^ self.arch.cr4) & PDPTE_CR4 != 0;
        if paging && concerned && !self.mode.long && value & cr4::PAE != 0 {
            self.load_pdptes(self.arch.cr3)?;
        }
        self.arch.cr4 = value;
        self.refresh_control();
        Ok(())
    }

    /// Whether PAE paging is on.
    #[must_use]
    pub fn uses_pdptes(&self) -> bool {
        let pae = self.arch.cr4 & cr4::PAE != 0;
        self.arch.cr0 & cr0::PG != 0 && pae && !self.mode.long
    }

    /// Loads the PDPTE registers after the host has set control registers, if they are in use and
    /// legal.
    pub fn reload_pdptes(&mut self) {
        if self.uses_pdptes() {
            // The host is not told of entries that the guest could not load either.
            let _ = self.load_pdptes(self.arch.cr3);
        }
    }

    /// What the PDPTE registers would be loaded with now; None if that is not legal.
    #[must_use]
    pub fn pdptes_in_memory(&self) -> Option<[u64; 4]> {
        load_pdptes(self.arch.cr3, &self.memory.map, self.features.max_phy_addr)
    }

    /// AMD has no such registers.
    fn load_pdptes(&mut self, cr3: u64) -> Done {
        if self.features.amd {
            return Ok(());
        }
        match load_pdptes(cr3, &self.memory.map, self.features.max_phy_addr) {
            Some(pdptes) => {
                self.arch.pdptes = pdptes;
                Ok(())
            }
            None => gp(0),
        }
    }
}

/// Cannot clear PE.
fn lmsw(cpu: &mut Cpu, op: &Op) -> Done {
    ring0(cpu)?;
    let value = u64::from(cpu.load::<u16>(op, op.dst)?) & LMSW_BITS;
    let kept = cpu.arch.cr0 & (!LMSW_BITS | cr0::PE);
    cpu.write_cr0(kept | value)
}

fn clts(cpu: &mut Cpu, _: &Op) -> Done {
    ring0(cpu)?;
    cpu.arch.cr0 &= !cr0::TS;
    Ok(())
}
