//! The task-state segment: SDM volume 3, "32-Bit Task-State Segment" and "16-Bit Task-State Segment".

use cpu_defs::{SegReg, attrib, attrib::system_type};

use crate::cpu::Cpu;
use crate::state::Segment;
use crate::stop::{Done, Stop, gp};

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

/// Offset of the I/O map base in a 32-bit and 64-bit TSS.
const IO_MAP_BASE: u64 = 0x66;
/// Smallest limit of a TSS that has the field.
const IO_MAP_MIN_LIMIT: u32 = 0x67;

impl Cpu {
    /// The current task's segment, and where its I/O map begins in it; #GP(0) where it has none.
    pub(super) fn io_map(&mut self) -> Result<(Segment, u16), Stop> {
        let tr = *self.arch.segment(SegReg::Tr);
        let kind = (tr.attrib & attrib::TYPE) as u8;
        let wide = matches!(kind, system_type::TSS_AVAILABLE | system_type::TSS_BUSY);
        if !wide || tr.unusable || tr.limit < IO_MAP_MIN_LIMIT {
            return gp(0);
        }
        Ok((tr, self.read_system(tr.base.wrapping_add(IO_MAP_BASE))?))
    }
}

/// Where the state is: words from `start` on, which are RIP, flags, general registers, selectors and
/// the LDT's selector.
pub(super) struct Format {
    /// Bytes of a word; also of an error code that is pushed.
    pub word: u8,
    /// Smallest limit of a TSS that can be entered.
    pub last: u32,
    cr3: Option<u64>,
    start: u64,
    /// A 16-bit TSS lacks FS and GS.
    nr_selectors: usize,
    trap: Option<u64>,
}

/// Words before the general registers, and before the selectors.
const GPRS: u64 = 2;
const SELECTORS: u64 = GPRS + 8;

const SHORT: Format =
    Format { word: 2, last: 0x2B, cr3: None, start: 0x0E, nr_selectors: 4, trap: None };
const LONG: Format =
    Format { word: 4, last: 0x67, cr3: Some(0x1C), start: 0x20, nr_selectors: 6, trap: Some(0x64) };

impl Format {
    /// By the type of the descriptor.
    pub(super) fn of(tss: &Segment) -> &'static Self {
        let short = tss.attrib & attrib::TYPE <= u16::from(system_type::TSS16_BUSY);
        if short { &SHORT } else { &LONG }
    }

    /// Offset of a word of the state.
    fn place(&self, number: u64) -> u64 {
        self.start + number * u64::from(self.word)
    }

    /// Words that are saved: all but the LDT's.
    fn nr_saved(&self) -> u64 {
        SELECTORS + self.nr_selectors as u64
    }

    /// Offset and length of what is saved.
    pub(super) fn saved(&self) -> (u64, usize) {
        (self.start, (self.place(self.nr_saved()) - self.start) as usize)
    }

    /// Smallest limit of a TSS that can be left.
    pub(super) fn last_saved(&self) -> u32 {
        self.place(self.nr_saved()) as u32 - 1
    }

    /// The state in a TSS. The upper halves of registers that a 16-bit one lacks are zero, as are
    /// FS and GS.
    pub(super) fn read(&self, cpu: &mut Cpu, base: u64) -> Result<Image, Stop> {
        let mut image = Image {
            cr3: self.cr3.map(|offset| self.read_word(cpu, base, offset)).transpose()?,
            rip: self.read_word(cpu, base, self.place(0))?,
            flags: self.read_word(cpu, base, self.place(1))?,
            gprs: [0; 8],
            selectors: [0; 6],
            ldt: 0,
            trap: false,
        };
        for (gpr, number) in image.gprs.iter_mut().zip(GPRS..) {
            *gpr = self.read_word(cpu, base, self.place(number))?;
        }
        for (selector, number) in image.selectors[..self.nr_selectors].iter_mut().zip(SELECTORS..) {
            *selector = cpu.read_system(base.wrapping_add(self.place(number)))?;
        }
        image.ldt = cpu.read_system(base.wrapping_add(self.place(self.nr_saved())))?;
        if let Some(offset) = self.trap {
            image.trap = cpu.read_system::<u16>(base.wrapping_add(offset))? & 1 != 0;
        }
        Ok(image)
    }

    fn read_word(&self, cpu: &mut Cpu, base: u64, offset: u64) -> Result<u64, Stop> {
        let gla = base.wrapping_add(offset);
        if self.word == 2 {
            return cpu.read_system::<u16>(gla).map(u64::from);
        }
        cpu.read_system::<u32>(gla).map(u64::from)
    }

    /// Saves the registers, with `flags` for RFLAGS.
    pub(super) fn save(&self, cpu: &mut Cpu, base: u64, flags: u64) -> Done {
        let gprs: [u64; 8] = std::array::from_fn(|number| cpu.arch.slots[number]);
        let words = [cpu.arch.rip(), flags].into_iter().chain(gprs);
        for (word, number) in words.zip(0..) {
            let gla = base.wrapping_add(self.place(number));
            match self.word {
                2 => cpu.write_system(gla, word as u16)?,
                _ => cpu.write_system(gla, word as u32)?,
            }
        }
        let selectors = SegReg::SREG.map(|reg| cpu.arch.segment(reg).selector);
        for (selector, number) in selectors[..self.nr_selectors].iter().zip(SELECTORS..) {
            cpu.write_system(base.wrapping_add(self.place(number)), *selector)?;
        }
        Ok(())
    }
}
