//! Segment and gate descriptors, and the tables they are in.
//!
//! SDM volume 3, "Segment Descriptors", "System Descriptor Types", "Call Gates".

use cpu_defs::{Exception, SegReg, attrib, vector};

use crate::cpu::Cpu;
use crate::state::Segment;
use crate::stop::{Done, Stop};

/// A descriptor as stored, first eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    raw: u64,
    /// Linear address it came from.
    gla: u64,
}

impl Descriptor {
    pub(crate) fn attrib(self) -> u16 {
        u16::from((self.raw >> 40) as u8) | ((self.raw >> 52) as u16 & 0xF) << 12
    }

    /// The upper half without the base, as LAR shows it: rights, and bits 19:16 of the limit.
    pub(crate) fn rights(self) -> u64 {
        self.raw >> 32 & 0xFF_FF00
    }

    pub(crate) fn dpl(self) -> u8 {
        (self.raw >> 45) as u8 & 3
    }

    /// Linear address of the byte that holds type, S, DPL and P.
    pub(crate) fn type_at(self) -> u64 {
        self.gla.wrapping_add(5)
    }

    /// Type field; with [`Self::is_system`] a system type.
    pub(crate) fn kind(self) -> u8 {
        (self.raw >> 40) as u8 & 0xF
    }

    pub(crate) fn is_system(self) -> bool {
        self.attrib() & attrib::S == 0
    }

    pub(crate) fn is_code(self) -> bool {
        !self.is_system() && self.attrib() & attrib::CODE != 0
    }

    pub(crate) fn is_conforming(self) -> bool {
        self.is_code() && self.attrib() & attrib::DOWN_CONFORMING != 0
    }

    pub(crate) fn is_readable(self) -> bool {
        !self.is_system() && (!self.is_code() || self.attrib() & attrib::WRITE_READ != 0)
    }

    pub(crate) fn is_writable(self) -> bool {
        !self.is_system() && !self.is_code() && self.attrib() & attrib::WRITE_READ != 0
    }

    pub(crate) fn is_present(self) -> bool {
        self.attrib() & attrib::P != 0
    }

    pub(crate) fn limit(self) -> u32 {
        let limit = (self.raw & 0xFFFF) as u32 | ((self.raw >> 32) as u32 & 0xF_0000);
        if self.attrib() & attrib::G != 0 { limit << 12 | 0xFFF } else { limit }
    }

    pub(crate) fn base(self) -> u64 {
        (self.raw >> 16 & 0xFF_FFFF) | (self.raw >> 32 & 0xFF00_0000)
    }

    /// As loaded into a segment register.
    pub(crate) fn segment(self, selector: u16) -> Segment {
        Segment {
            selector,
            attrib: self.attrib(),
            unusable: false,
            limit: self.limit(),
            base: self.base(),
        }
    }

    /// Selector in a gate.
    pub(crate) fn gate_selector(self) -> u16 {
        (self.raw >> 16) as u16
    }

    /// Offset in a gate: 16 bits, or 32 with `wide`.
    pub(crate) fn gate_offset(self, wide: bool) -> u64 {
        let high = if wide { self.raw >> 32 & 0xFFFF_0000 } else { 0 };
        (self.raw & 0xFFFF) | high
    }

    /// Parameter count of a call gate.
    pub(crate) fn gate_parameters(self) -> u8 {
        (self.raw >> 32) as u8 & 31
    }

    /// Interrupt stack table index of a 64-bit gate.
    pub(crate) fn gate_ist(self) -> u8 {
        (self.raw >> 32) as u8 & 7
    }
}

/// An exception whose error code names a selector.
#[cold]
pub(crate) fn selector_fault(vector: u8, selector: u16, ext: u32) -> Stop {
    Stop::Fault(Exception::with_code(vector, u32::from(selector & !3) | ext))
}

/// Whether a selector is null: index 0 of the GDT.
pub(crate) fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

impl Cpu {
    /// The descriptor a selector names; `vector` with the selector (and `ext`) if it is beyond its
    /// table.
    pub(crate) fn descriptor(
        &mut self,
        selector: u16,
        vector: u8,
        ext: u32,
    ) -> Result<Descriptor, Stop> {
        self.find_descriptor(selector)?.ok_or_else(|| selector_fault(vector, selector, ext))
    }

    /// The descriptor a selector names, if it is inside its table.
    pub(crate) fn find_descriptor(&mut self, selector: u16) -> Result<Option<Descriptor>, Stop> {
        let index = u64::from(selector & !7);
        let (base, limit) = if selector & 4 != 0 {
            let ldtr = self.arch.segment(SegReg::Ldtr);
            if ldtr.unusable {
                return Ok(None);
            }
            (ldtr.base, u64::from(ldtr.limit))
        } else {
            (self.arch.gdtr.base, u64::from(self.arch.gdtr.limit))
        };
        if index + 7 > limit {
            return Ok(None);
        }
        self.descriptor_at(base.wrapping_add(index)).map(Some)
    }

    /// The descriptor at a linear address.
    pub(crate) fn descriptor_at(&mut self, gla: u64) -> Result<Descriptor, Stop> {
        Ok(Descriptor { raw: self.read_system(gla)?, gla })
    }

    /// Bytes 8 to 15 of a 16-byte gate of the IDT.
    pub(crate) fn upper_half(&mut self, descriptor: Descriptor) -> Result<u64, Stop> {
        self.read_system(descriptor.gla.wrapping_add(8))
    }

    /// Bits 63:32 of the address in a 16-byte descriptor that a selector names. #GP with the
    /// selector if its upper half is outside of the table or has a type.
    pub(crate) fn wide_descriptor_upper(&mut self, selector: u16) -> Result<u64, Stop> {
        let upper = match selector.checked_add(8) {
            Some(next) => self.find_descriptor(next)?,
            None => None,
        };
        match upper {
            Some(upper) if upper.raw >> 40 & 0x1F == 0 => Ok(upper.raw & 0xFFFF_FFFF),
            _ => Err(selector_fault(vector::GP, selector, 0)),
        }
    }

    /// Sets the accessed bit in memory and returns the descriptor with it.
    pub(crate) fn mark_accessed(&mut self, descriptor: Descriptor) -> Result<Descriptor, Stop> {
        let accessed = 1_u64 << 40;
        if descriptor.raw & accessed == 0 {
            self.write_type(descriptor, (descriptor.raw >> 40) as u8 | 1)?;
        }
        Ok(Descriptor { raw: descriptor.raw | accessed, ..descriptor })
    }

    /// Makes the descriptor of an available TSS busy.
    pub(crate) fn mark_busy(&mut self, descriptor: Descriptor) -> Result<Descriptor, Stop> {
        let busy = 2_u64 << 40;
        self.write_type(descriptor, (descriptor.raw >> 40) as u8 | 2)?;
        Ok(Descriptor { raw: descriptor.raw | busy, ..descriptor })
    }

    /// Makes the descriptor of a busy TSS available.
    pub(crate) fn mark_free(&mut self, descriptor: Descriptor) -> Done {
        self.write_type(descriptor, (descriptor.raw >> 40) as u8 & !2)
    }

    /// Linear address of an entry of the GDT.
    pub(crate) fn gdt_entry(&self, selector: u16) -> u64 {
        self.arch.gdtr.base.wrapping_add(u64::from(selector & !7))
    }

    fn write_type(&mut self, descriptor: Descriptor, access: u8) -> Done {
        self.write_system(descriptor.type_at(), access)
    }

    /// The stack pointer and stack segment for privilege level `level` in the TSS.
    pub(crate) fn tss_stack(&mut self, level: u8, ext: u32) -> Result<(u64, u16), Stop> {
        let tr = *self.arch.segment(SegReg::Tr);
        let short = tr.attrib & attrib::TYPE <= u16::from(attrib::system_type::TSS16_BUSY);
        let (at, size) = match (self.mode.long, short) {
            (true, _) => (4 + 8 * u32::from(level), 8),
            (false, true) => (2 + 4 * u32::from(level), 4),
            (false, false) => (4 + 8 * u32::from(level), 8),
        };
        self.check_tss(&tr, at + size, ext)?;
        let gla = tr.base.wrapping_add(u64::from(at));
        if self.mode.long {
            return Ok((self.read_system(gla)?, u16::from(level)));
        }
        if short {
            let pointer: u16 = self.read_system(gla)?;
            return Ok((u64::from(pointer), self.read_system(gla.wrapping_add(2))?));
        }
        let pointer: u32 = self.read_system(gla)?;
        Ok((u64::from(pointer), self.read_system(gla.wrapping_add(4))?))
    }

    /// Entry `index` (1 to 7) of the interrupt stack table.
    pub(crate) fn tss_ist(&mut self, index: u8, ext: u32) -> Result<u64, Stop> {
        let tr = *self.arch.segment(SegReg::Tr);
        let at = 0x24 + 8 * (u32::from(index) - 1);
        self.check_tss(&tr, at + 8, ext)?;
        self.read_system(tr.base.wrapping_add(u64::from(at)))
    }

    /// #TS unless `end` bytes of the TSS are inside its limit.
    fn check_tss(&self, tr: &Segment, end: u32, ext: u32) -> Done {
        if tr.unusable || end - 1 > tr.limit {
            return Err(selector_fault(vector::TS, tr.selector, ext));
        }
        Ok(())
    }
}
