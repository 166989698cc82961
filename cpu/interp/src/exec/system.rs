//! Control and debug registers, descriptor table registers, CPUID, HLT, cache and TLB control.
//!
//! SDM volume 3, "Control Registers" and "Debug Registers"; the checks of MOV CR are those of
//! volume 2, "MOV - Move to/from Control Registers".

use cpu_defs::{Exception, Gpr, SegReg, attrib, cr0, cr4, dr6, dr7, efer, vector};
use cpu_mmu::{PdpteError, load_pdptes};
use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::place::by_size;
use crate::cpu::{Cpu, Request};
use crate::int::Int;
use crate::op::{Handler, Op};
use crate::state::Table;
use crate::stop::{Done, Stop, gp, ud};

/// Bits of CR4 that can be set.
pub const CR4_LEGAL: u64 = cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::MCE
    | cr4::PGE
    | cr4::PCE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT;
/// Bits of CR0 that LMSW loads.
const LMSW_BITS: u64 = cr0::PE | cr0::MP | cr0::EM | cr0::TS;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let register = |number: u32| {
        let is_register = instruction.op_kind(number) == OpKind::Register;
        is_register.then(|| instruction.op_register(number))
    };
    Some(match instruction.mnemonic() {
        Mnemonic::Mov if register(0).is_some_and(|r| r.is_cr()) => mov_to_cr,
        Mnemonic::Mov if register(1).is_some_and(|r| r.is_cr()) => mov_from_cr,
        Mnemonic::Mov if register(0).is_some_and(|r| r.is_dr()) => mov_to_dr,
        Mnemonic::Mov if register(1).is_some_and(|r| r.is_dr()) => mov_from_dr,
        Mnemonic::Lgdt | Mnemonic::Lidt | Mnemonic::Sgdt | Mnemonic::Sidt => {
            op.size = match instruction.code() {
                Code::Lgdt_m1632_16
                | Code::Lidt_m1632_16
                | Code::Sgdt_m1632_16
                | Code::Sidt_m1632_16 => 2,
                Code::Lgdt_m1632 | Code::Lidt_m1632 | Code::Sgdt_m1632 | Code::Sidt_m1632 => 4,
                _ => 8,
            };
            match instruction.mnemonic() {
                Mnemonic::Lgdt => lgdt,
                Mnemonic::Lidt => lidt,
                Mnemonic::Sgdt => |cpu, op| store_table(cpu, op, cpu.arch.gdtr),
                _ => |cpu, op| store_table(cpu, op, cpu.arch.idtr),
            }
        }
        Mnemonic::Smsw if op.dst_is_memory() => smsw::<u16>,
        Mnemonic::Smsw => by_size!(op.size, smsw),
        Mnemonic::Lmsw => lmsw,
        Mnemonic::Clts => clts,
        Mnemonic::Hlt => hlt,
        Mnemonic::Invd | Mnemonic::Wbinvd => |cpu, _| {
            ring0(cpu)?;
            cpu.epoch = cpu.epoch.wrapping_add(1);
            Ok(())
        },
        Mnemonic::Invlpg => invlpg,
        Mnemonic::Cpuid => cpuid,
        _ => return None,
    })
}

fn ring0(cpu: &Cpu) -> Done {
    if cpu.arch.cpl != 0 { gp(0) } else { Ok(()) }
}

/// MOV of control and debug registers is 64 bits wide in 64-bit code, else 32.
fn system_operand(cpu: &Cpu, register: u8) -> u64 {
    if cpu.mode.code64 { cpu.get(register) } else { u64::from(cpu.get::<u32>(register)) }
}

fn set_system_operand(cpu: &mut Cpu, register: u8, value: u64) {
    if cpu.mode.code64 {
        cpu.set(register, value);
    } else {
        cpu.set(register, value as u32);
    }
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
    fn write_cr0(&mut self, value: u64) -> Done {
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
            if self.mode.code64 {
                return gp(0);
            }
            new_efer &= !efer::LMA;
        }
        if paging && new_efer & efer::LMA == 0 && self.arch.cr4 & cr4::PAE != 0 {
            self.arch.pdptes = self.fetch_pdptes(self.arch.cr3)?;
        }
        self.arch.cr0 = value;
        self.arch.efer = new_efer;
        self.refresh_paging();
        Ok(())
    }

    fn write_cr3(&mut self, value: u64) -> Done {
        if self.mode.long && value >> self.features.max_phy_addr != 0 {
            return gp(0);
        }
        if self.uses_pdptes() {
            self.arch.pdptes = self.fetch_pdptes(value)?;
        }
        self.arch.cr3 = value;
        self.refresh_cr3();
        Ok(())
    }

    fn write_cr4(&mut self, value: u64) -> Done {
        let leaves_pae = self.mode.long && value & cr4::PAE == 0;
        if value & !CR4_LEGAL != 0 || leaves_pae {
            return gp(0);
        }
        let paging = self.arch.cr0 & cr0::PG != 0;
        if paging && !self.mode.long && value & cr4::PAE != 0 {
            self.arch.pdptes = self.fetch_pdptes(self.arch.cr3)?;
        }
        self.arch.cr4 = value;
        self.refresh_paging();
        Ok(())
    }

    fn uses_pdptes(&self) -> bool {
        let pae = self.arch.cr4 & cr4::PAE != 0;
        self.arch.cr0 & cr0::PG != 0 && pae && !self.mode.long
    }

    /// Loads the PDPTE registers after the host has set control registers, if they are in use and
    /// in memory.
    pub fn reload_pdptes(&mut self) {
        if self.uses_pdptes()
            && let Ok(pdptes) =
                load_pdptes(self.arch.cr3, &self.memory.map, self.features.max_phy_addr)
        {
            self.arch.pdptes = pdptes;
        }
    }

    fn fetch_pdptes(&self, cr3: u64) -> Result<[u64; 4], Stop> {
        match load_pdptes(cr3, &self.memory.map, self.features.max_phy_addr) {
            Ok(pdptes) => Ok(pdptes),
            Err(PdpteError::Reserved) => gp(0),
            Err(PdpteError::NotBacked { .. }) => Err(Stop::Unsupported),
        }
    }
}

/// DR4 and DR5 are DR6 and DR7, unless CR4.DE says that they do not exist.
fn debug_register(cpu: &mut Cpu, number: u8) -> Result<u8, Stop> {
    if matches!(number, 4 | 5) && cpu.arch.cr4 & cr4::DE != 0 || number > 7 {
        return ud();
    }
    ring0(cpu)?;
    if cpu.arch.dr7 & dr7::GD != 0 {
        cpu.arch.dr6 |= dr6::BD;
        cpu.arch.dr7 &= !dr7::GD;
        return Err(Stop::Fault(Exception::plain(vector::DB)));
    }
    Ok(if number >= 6 { number } else { number | (number & 4) >> 1 })
}

fn mov_to_dr(cpu: &mut Cpu, op: &Op) -> Done {
    let number = debug_register(cpu, op.dst)?;
    let value = system_operand(cpu, op.src);
    if number >= 6 && value >> 32 != 0 {
        return gp(0);
    }
    match number {
        6 => cpu.arch.dr6 = (value & (dr6::BS | dr6::BD | 0xF)) | dr6::FIXED_ONE,
        7 => cpu.arch.dr7 = (value & 0xFFFF_2BFF) | dr7::FIXED_ONE,
        _ => cpu.arch.dr[usize::from(number & 3)] = value,
    }
    Ok(())
}

fn mov_from_dr(cpu: &mut Cpu, op: &Op) -> Done {
    let number = debug_register(cpu, op.src)?;
    let value = match number {
        6 => cpu.arch.dr6,
        7 => cpu.arch.dr7,
        _ => cpu.arch.dr[usize::from(number & 3)],
    };
    set_system_operand(cpu, op.dst, value);
    Ok(())
}

fn load_table(cpu: &mut Cpu, op: &Op) -> Result<Table, Stop> {
    ring0(cpu)?;
    let at = cpu.offset(op);
    let base_at = at.wrapping_add(2) & op.address_mask;
    let limit = cpu.read(op.seg, at)?;
    let base = match op.size {
        8 => cpu.read::<u64>(op.seg, base_at)?,
        4 => u64::from(cpu.read::<u32>(op.seg, base_at)?),
        _ => u64::from(cpu.read::<u32>(op.seg, base_at)? & 0xFF_FFFF),
    };
    if op.size == 8 && !cpu_mmu::is_canonical(base, false) {
        return gp(0);
    }
    Ok(Table { base, limit })
}

fn lgdt(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.arch.gdtr = load_table(cpu, op)?;
    Ok(())
}

fn lidt(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.arch.idtr = load_table(cpu, op)?;
    Ok(())
}

/// Stores the whole base whatever the operand size, as processors since the 80386 do.
fn store_table(cpu: &mut Cpu, op: &Op, table: Table) -> Done {
    let at = cpu.offset(op);
    let base_at = at.wrapping_add(2) & op.address_mask;
    let len = if op.size == 8 { 10 } else { 6 };
    cpu.probe_write(op.seg, at, len)?;
    cpu.write(op.seg, at, table.limit)?;
    if op.size == 8 {
        cpu.write(op.seg, base_at, table.base)
    } else {
        cpu.write(op.seg, base_at, table.base as u32)
    }
}

fn smsw<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.store(op, op.dst, T::from_u64(cpu.arch.cr0))
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

fn hlt(cpu: &mut Cpu, _: &Op) -> Done {
    ring0(cpu)?;
    cpu.request = Some(Request::Hlt);
    cpu.attention = true;
    Ok(())
}

fn invlpg(cpu: &mut Cpu, op: &Op) -> Done {
    ring0(cpu)?;
    let offset = cpu.offset(op);
    let uses_base = !cpu.mode.code64 || op.seg >= SegReg::Fs as u8;
    let base = if uses_base { cpu.arch.seg[usize::from(op.seg & 7)].base } else { 0 };
    let gla = base.wrapping_add(offset);
    cpu.memory.tlb.flush_page(if cpu.mode.code64 { gla } else { gla & 0xFFFF_FFFF });
    cpu.epoch = cpu.epoch.wrapping_add(1);
    Ok(())
}

/// Serialising.
fn cpuid(cpu: &mut Cpu, _: &Op) -> Done {
    let (function, index) = (cpu.get::<u32>(Gpr::Rax as u8), cpu.get::<u32>(Gpr::Rcx as u8));
    let found = cpu.cpuid.iter().find(|entry| {
        entry.function == function && (!entry.significant_index || entry.index == index)
    });
    let [eax, ebx, ecx, edx] =
        found.map_or([0; 4], |entry| [entry.eax, entry.ebx, entry.ecx, entry.edx]);
    for (gpr, value) in [(Gpr::Rax, eax), (Gpr::Rbx, ebx), (Gpr::Rcx, ecx), (Gpr::Rdx, edx)] {
        cpu.set(gpr as u8, value);
    }
    cpu.epoch = cpu.epoch.wrapping_add(1);
    Ok(())
}
