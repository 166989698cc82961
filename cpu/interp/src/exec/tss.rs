//! The task-state segment: SDM volume 3, "32-Bit Task-State Segment" and "16-Bit Task-State Segment".

use cpu_defs::{SegReg, attrib, attrib::system_type};

use crate::cpu::Cpu;
use crate::state::Segment;
use crate::stop::{Done, Stop};

/// What a task switch loads.
pub(super) struct Image {
    /// None in a 16-bit TSS.
    pub cr3: Option<u64>,
    pub rip: u64,
    pub flags: u64,
    /// In the order of [`cpu_defs::Gpr`].
    pub gprs: [u64; 8],
    /// In the order of [`SegReg::SREG`].
    selectors: [u16; 6],
    pub ldt: u16,
    /// The T flag: #DB before the first instruction.
    pub trap: bool,
}

impl Image {
    pub(super) fn selector(&self, reg: SegReg) -> u16 {
        SegReg::SREG
            .iter()
            .position(|&other| other == reg)
            .map_or(0, |number| self.selectors[number])
    }
}

/// The two layouts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Short,
    Long,
}

/// Offsets of the 32-bit TSS.
mod long {
    pub const CR3: u64 = 0x1C;
    pub const EIP: u64 = 0x20;
    pub const GPRS: u64 = 0x28;
    pub const SEGMENTS: u64 = 0x48;
    pub const LDT: u64 = 0x60;
    pub const TRAP: u64 = 0x64;
}

/// Offsets of the 16-bit TSS.
mod short {
    pub const IP: u64 = 0x0E;
    pub const GPRS: u64 = 0x12;
    pub const SEGMENTS: u64 = 0x22;
    pub const LDT: u64 = 0x2A;
}

impl Format {
    /// By the type of the descriptor.
    pub(super) fn of(tss: &Segment) -> Self {
        let short = tss.attrib & attrib::TYPE <= u16::from(system_type::TSS16_BUSY);
        if short { Format::Short } else { Format::Long }
    }

    /// Smallest limit of a TSS that can be entered.
    pub(super) fn last(self) -> u32 {
        if self == Format::Short { 0x2B } else { 0x67 }
    }

    /// Smallest limit of a TSS that can be left.
    pub(super) fn last_saved(self) -> u32 {
        if self == Format::Short { 0x29 } else { 0x5F }
    }

    /// Offset and length of what is saved.
    pub(super) fn saved(self) -> (u64, usize) {
        if self == Format::Short { (short::IP, 0x1C) } else { (long::EIP, 0x40) }
    }

    /// Bytes of a general register, and of an error code that is pushed.
    pub(super) fn word(self) -> u8 {
        if self == Format::Short { 2 } else { 4 }
    }

    /// The state in a TSS. The upper halves of registers that a 16-bit one lacks are zero, as are
    /// FS and GS.
    pub(super) fn read(self, cpu: &mut Cpu, base: u64) -> Result<Image, Stop> {
        let mut image = Image {
            cr3: None,
            rip: 0,
            flags: 0,
            gprs: [0; 8],
            selectors: [0; 6],
            ldt: 0,
            trap: false,
        };
        let at = |offset: u64| base.wrapping_add(offset);
        if self == Format::Short {
            let word = |cpu: &mut Cpu, offset| cpu.read_system::<u16>(at(offset)).map(u64::from);
            image.rip = word(cpu, short::IP)?;
            image.flags = word(cpu, short::IP + 2)?;
            for (offset, gpr) in (short::GPRS..).step_by(2).zip(&mut image.gprs) {
                *gpr = word(cpu, offset)?;
            }
            for (offset, selector) in (short::SEGMENTS..).step_by(2).zip(&mut image.selectors[..4])
            {
                *selector = cpu.read_system(at(offset))?;
            }
            image.ldt = cpu.read_system(at(short::LDT))?;
            return Ok(image);
        }
        let word = |cpu: &mut Cpu, offset| cpu.read_system::<u32>(at(offset)).map(u64::from);
        image.cr3 = Some(word(cpu, long::CR3)?);
        image.rip = word(cpu, long::EIP)?;
        image.flags = word(cpu, long::EIP + 4)?;
        for (offset, gpr) in (long::GPRS..).step_by(4).zip(&mut image.gprs) {
            *gpr = word(cpu, offset)?;
        }
        for (offset, selector) in (long::SEGMENTS..).step_by(4).zip(&mut image.selectors) {
            *selector = cpu.read_system(at(offset))?;
        }
        image.ldt = cpu.read_system(at(long::LDT))?;
        image.trap = cpu.read_system::<u16>(at(long::TRAP))? & 1 != 0;
        Ok(image)
    }

    /// Saves the registers, with `flags` for RFLAGS.
    pub(super) fn save(self, cpu: &mut Cpu, base: u64, flags: u64) -> Done {
        let at = |offset: u64| base.wrapping_add(offset);
        let gprs: [u64; 8] = std::array::from_fn(|number| cpu.arch.slots[number]);
        let words = [cpu.arch.rip(), flags].into_iter().chain(gprs);
        let selectors = SegReg::SREG.map(|reg| cpu.arch.segment(reg).selector);
        if self == Format::Short {
            for (offset, word) in (short::IP..).step_by(2).zip(words) {
                cpu.write_system(at(offset), word as u16)?;
            }
            for (offset, selector) in (short::SEGMENTS..).step_by(2).zip(&selectors[..4]) {
                cpu.write_system(at(offset), *selector)?;
            }
            return Ok(());
        }
        for (offset, word) in (long::EIP..).step_by(4).zip(words) {
            cpu.write_system(at(offset), word as u32)?;
        }
        for (offset, selector) in (long::SEGMENTS..).step_by(4).zip(selectors) {
            cpu.write_system(at(offset), selector)?;
        }
        Ok(())
    }
}
