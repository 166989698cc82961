//! System management mode: entry by SMI, and RSM.
//!
//! SDM volume 3, "System Management Mode"; APM volume 2, the chapter of that name. What is saved and
//! how the handler begins is as in KVM. The mode has a guest-physical address space of its own,
//! [`crate::memory::Memory::select`].
//!
//! Laws: RSM that finds a state which cannot be loaded is a shutdown outside of system management
//! mode with the registers of the handler; SMIs and NMIs wait while the mode lasts.

mod save_area;

use cpu_defs::{SegReg, attrib, cr0, cr4, dr7, efer, msr, rflags};
use cpu_mem::{HostPage, PAGE_SIZE, PageFlags};
use iced_x86::{Instruction, Mnemonic};

use self::save_area::SaveArea;
use super::Origin;
use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::state::{Arch, Segment, Shadow, Table};
use crate::stop::{Done, Stop, gp, ud};

/// Where the handler begins in its code segment, whose base is SMBASE.
const ENTRY: u64 = 0x8000;
/// Bits of CR0 that the handler begins without.
const CR0_CLEARED: u64 = cr0::PE | cr0::EM | cr0::TS | cr0::PG;
const PCID: u64 = 0xFFF;

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    (instruction.mnemonic() == Mnemonic::Rsm).then_some(rsm as Handler)
}

/// At any privilege level.
fn rsm(cpu: &mut Cpu, _: &Op) -> Done {
    if cpu.arch.smm { cpu.leave_smm() } else { ud() }
}

impl Cpu {
    /// Enters system management mode. False: the state-save area is not in writable memory, and
    /// the state is lost.
    pub(crate) fn enter_smm(&mut self) -> bool {
        let mut area = SaveArea::new(&self.features);
        area.save(&self.arch);
        self.count_smi();
        self.set_smm(true);
        let saved = self.write_save_area(&area);
        let long = self.features.announces_long_mode();
        let arch = &mut self.arch;
        arch.smm_inside_nmi = arch.nmi_blocked;
        arch.nmi_blocked = true;
        arch.shadow = Shadow::None;
        arch.rflags = rflags::FIXED_ONE;
        arch.set_rip(ENTRY);
        arch.cr0 &= !CR0_CLEARED;
        arch.cr4 = 0;
        arch.efer = if long { 0 } else { arch.efer & !efer::LMA };
        arch.dr7 = dr7::FIXED_ONE;
        arch.idtr = Table { base: 0, limit: 0 };
        let flat = Segment {
            selector: 0,
            attrib: attrib::WRITE_READ | attrib::ACCESSED | attrib::S | attrib::P | attrib::G,
            unusable: false,
            limit: u32::MAX,
            base: 0,
        };
        for reg in [SegReg::Es, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
            arch.seg[reg as usize] = flat;
        }
        let base = arch.msrs.smbase;
        arch.seg[SegReg::Cs as usize] = Segment { selector: (base >> 4) as u16, base, ..flat };
        arch.cpl = 0;
        self.refresh_paging();
        saved
    }

    /// Says whether the processor is in system management mode, and has it see the memory of that
    /// mode. What was cached of memory is void.
    pub(crate) fn set_smm(&mut self, active: bool) {
        self.arch.smm = active;
        self.arch.smm_inside_nmi &= active;
        self.memory.select(active);
        self.code_is_void = true;
        self.refresh_paging();
    }

    fn leave_smm(&mut self) -> Done {
        let mut area = SaveArea::new(&self.features);
        if !self.read_save_area(&mut area) {
            return Err(Stop::Shutdown);
        }
        self.arch.nmi_blocked &= self.arch.smm_inside_nmi;
        self.set_smm(false);
        let handler = self.arch;
        let restored = area.load(&handler).is_some_and(|saved| self.restore(&saved).is_ok());
        if !restored {
            self.arch = handler;
            self.refresh_paging();
            return Err(Stop::Shutdown);
        }
        self.attention = true;
        Ok(())
    }

    /// Loads saved registers. An error: they cannot be loaded, and some have been.
    ///
    /// The control registers go through the checks of MOV and WRMSR, from real mode.
    fn restore(&mut self, saved: &Arch) -> Done {
        let arch = &mut self.arch;
        arch.cr0 &= !(cr0::PG | cr0::PE);
        arch.seg[SegReg::Cs as usize] = saved.seg[SegReg::Cs as usize];
        if self.features.announces_long_mode() {
            arch.seg[SegReg::Cs as usize].attrib &= !attrib::L;
            arch.cr4 &= !(cr4::PAE | cr4::PCIDE);
            arch.efer = 0;
            self.refresh_control();
            self.guest_write_msr(msr::EFER, saved.efer & !efer::LMA).or_else(|_| gp(0))?;
        }
        if saved.cr3 >> self.features.max_phy_addr != 0 {
            return gp(0);
        }
        let pcide = saved.cr4 & cr4::PCIDE != 0;
        self.write_cr3(if pcide { saved.cr3 & !PCID } else { saved.cr3 })?;
        self.write_cr4(saved.cr4 & !cr4::PCIDE)?;
        self.write_cr0(saved.cr0)?;
        if pcide {
            self.write_cr4(saved.cr4)?;
            self.write_cr3(saved.cr3)?;
        }
        let Arch { cr0, cr3, cr4, efer, pdptes, .. } = self.arch;
        self.arch = Arch { cr0, cr3, cr4, efer, pdptes, ..*saved };
        self.arch.cpl = self.arch.implied_cpl();
        self.refresh_paging();
        Ok(())
    }

    /// SMI_COUNT as INIT leaves it.
    pub fn reset_smi_count(&mut self) {
        self.set_smi_count(0);
    }

    fn count_smi(&mut self) {
        let count = self.read_msr(msr::SMI_COUNT, Origin::Host).unwrap_or(0);
        self.set_smi_count(count.wrapping_add(1));
    }

    fn set_smi_count(&mut self, count: u64) {
        // Every value is one that the host can write.
        let _ = self.write_msr(msr::SMI_COUNT, count, Origin::Host);
    }

    fn write_save_area(&self, area: &SaveArea) -> bool {
        let mut done = 0;
        while let Some(rest) = area.bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let gpa = self.save_area_gpa(done);
            let page = self.memory.map.page_to_write(gpa);
            let Some(page) = page.filter(|page| page.flags().contains(PageFlags::WRITE)) else {
                return false;
            };
            done += on_page(page, gpa, rest.len(), |page, at, len| page.copy_in(at, &rest[..len]));
        }
        true
    }

    fn read_save_area(&self, area: &mut SaveArea) -> bool {
        let mut done = 0;
        while let Some(rest) = area.bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let gpa = self.save_area_gpa(done);
            let Some(page) = self.memory.map.page(gpa) else { return false };
            let len = rest.len();
            done += on_page(page, gpa, len, |page, at, len| page.copy_out(at, &mut rest[..len]));
        }
        true
    }

    fn save_area_gpa(&self, done: usize) -> u64 {
        self.arch.msrs.smbase.wrapping_add(save_area::OFFSET).wrapping_add(done as u64)
    }
}

/// Uses as many of `len` bytes as lie on the page, and returns how many.
fn on_page(
    page: HostPage,
    gpa: u64,
    len: usize,
    mut access: impl FnMut(HostPage, usize, usize),
) -> usize {
    let offset = gpa as usize % PAGE_SIZE;
    let len = len.min(PAGE_SIZE - offset);
    access(page, offset, len);
    len
}
