//! The state-save area of system management mode, in the two layouts that KVM uses.
//!
//! With long mode that of AMD64 (APM volume 2, "SMM State-Save Area"), without it the older one of
//! 32 bits (APM volume 2, "Legacy SMM State-Save Area"). Offsets are from SMBASE, as in the manual.
//!
//! As in KVM the fields for I/O restart and auto-halt restart are zero and not looked at, and a
//! byte that the manual reserves keeps the interrupt shadow.

use cpu_defs::{Gpr, SegReg, attrib, dr6, dr7, rflags};

use crate::features::Features;
use crate::state::{Arch, Segment, Shadow, Table};

/// Where the area begins.
pub(super) const OFFSET: u64 = 0xFE00;
const LEN: usize = 0x200;
/// SMBASE can be changed, an I/O instruction cannot be restarted; the low bits tell the layouts
/// apart.
const REVISION: u64 = 0x2_0000;
const REVISION_64: u64 = 0x64;

/// Where a field is, and its length in bytes.
#[derive(Clone, Copy)]
struct Field(usize, usize);

/// The places that both layouts have.
struct Layout {
    cr0: Field,
    cr3: Field,
    cr4: Field,
    dr6: Field,
    dr7: Field,
    rflags: Field,
    rip: Field,
    rax: usize,
    /// To the next general register, in bytes.
    gpr_step: isize,
    gprs: usize,
    gpr_len: usize,
    revision: Field,
    smbase: Field,
    shadow: Field,
    efer: Option<Field>,
    gdtr: TableFields,
    idtr: TableFields,
    segments: [(SegReg, SegmentFields); 8],
}

#[derive(Clone, Copy)]
struct TableFields {
    limit: Field,
    base: Field,
}

#[derive(Clone, Copy)]
struct SegmentFields {
    selector: Field,
    attrib: Field,
    /// How far up the rights are in their field.
    attrib_shift: u32,
    limit: Field,
    base: Field,
}

/// A segment of the AMD64 layout.
const fn wide(at: usize) -> SegmentFields {
    SegmentFields {
        selector: Field(at, 2),
        attrib: Field(at + 2, 2),
        attrib_shift: 0,
        limit: Field(at + 4, 4),
        base: Field(at + 8, 8),
    }
}

const fn wide_table(at: usize) -> TableFields {
    TableFields { limit: Field(at + 4, 4), base: Field(at + 8, 8) }
}

/// A segment of the 32-bit layout, whose selectors are elsewhere.
const fn narrow(at: usize, selector: usize) -> SegmentFields {
    SegmentFields {
        selector: Field(selector, 4),
        attrib: Field(at, 4),
        attrib_shift: 8,
        limit: Field(at + 4, 4),
        base: Field(at + 8, 4),
    }
}

const fn narrow_table(at: usize) -> TableFields {
    TableFields { limit: Field(at + 4, 4), base: Field(at + 8, 4) }
}

const AMD64: Layout = Layout {
    cr0: Field(0xFF58, 8),
    cr3: Field(0xFF50, 8),
    cr4: Field(0xFF48, 8),
    dr6: Field(0xFF68, 8),
    dr7: Field(0xFF60, 8),
    rflags: Field(0xFF70, 8),
    rip: Field(0xFF78, 8),
    rax: 0xFFF8,
    gpr_step: -8,
    gprs: 16,
    gpr_len: 8,
    revision: Field(0xFEFC, 4),
    smbase: Field(0xFF00, 4),
    shadow: Field(0xFECB, 1),
    efer: Some(Field(0xFED0, 8)),
    gdtr: wide_table(0xFE60),
    idtr: wide_table(0xFE80),
    segments: [
        (SegReg::Es, wide(0xFE00)),
        (SegReg::Cs, wide(0xFE10)),
        (SegReg::Ss, wide(0xFE20)),
        (SegReg::Ds, wide(0xFE30)),
        (SegReg::Fs, wide(0xFE40)),
        (SegReg::Gs, wide(0xFE50)),
        (SegReg::Ldtr, wide(0xFE70)),
        (SegReg::Tr, wide(0xFE90)),
    ],
};

const LEGACY: Layout = Layout {
    cr0: Field(0xFFFC, 4),
    cr3: Field(0xFFF8, 4),
    cr4: Field(0xFF14, 4),
    dr6: Field(0xFFCC, 4),
    dr7: Field(0xFFC8, 4),
    rflags: Field(0xFFF4, 4),
    rip: Field(0xFFF0, 4),
    rax: 0xFFD0,
    gpr_step: 4,
    gprs: 8,
    gpr_len: 4,
    revision: Field(0xFEFC, 4),
    smbase: Field(0xFEF8, 4),
    shadow: Field(0xFF1A, 1),
    efer: None,
    gdtr: narrow_table(0xFF6C),
    idtr: narrow_table(0xFF50),
    segments: [
        (SegReg::Es, narrow(0xFF84, 0xFFA8)),
        (SegReg::Cs, narrow(0xFF90, 0xFFAC)),
        (SegReg::Ss, narrow(0xFF9C, 0xFFB0)),
        (SegReg::Ds, narrow(0xFF2C, 0xFFB4)),
        (SegReg::Fs, narrow(0xFF38, 0xFFB8)),
        (SegReg::Gs, narrow(0xFF44, 0xFFBC)),
        (SegReg::Ldtr, narrow(0xFF78, 0xFFC0)),
        (SegReg::Tr, narrow(0xFF5C, 0xFFC4)),
    ],
};

/// KVM's numbers for the kept shadow.
const SHADOW_MOV_SS: u64 = 1;
const SHADOW_STI: u64 = 2;

/// The bytes of a state-save area.
pub(super) struct SaveArea {
    pub(super) bytes: [u8; LEN],
    layout: &'static Layout,
}

impl SaveArea {
    /// All zero, in the layout of this processor.
    pub(super) fn new(features: &Features) -> Self {
        let layout = if features.announces_long_mode() { &AMD64 } else { &LEGACY };
        SaveArea { bytes: [0; LEN], layout }
    }

    /// Takes the registers over.
    pub(super) fn save(&mut self, arch: &Arch) {
        let layout = self.layout;
        for (number, gpr) in Gpr::ALL[..layout.gprs].iter().enumerate() {
            self.put(layout.gpr(number), arch.gpr(*gpr));
        }
        let revision = REVISION | if layout.efer.is_some() { REVISION_64 } else { 0 };
        let shadow = match arch.shadow {
            Shadow::None => 0,
            Shadow::MovSs => SHADOW_MOV_SS,
            Shadow::Sti => SHADOW_STI,
        };
        for (field, value) in [
            (layout.cr0, arch.cr0),
            (layout.cr3, arch.cr3),
            (layout.cr4, arch.cr4),
            (layout.dr6, arch.dr6),
            (layout.dr7, arch.dr7),
            (layout.rflags, arch.rflags),
            (layout.rip, arch.rip()),
            (layout.revision, revision),
            (layout.smbase, arch.msrs.smbase),
            (layout.shadow, shadow),
        ] {
            self.put(field, value);
        }
        if let Some(efer) = layout.efer {
            self.put(efer, arch.efer);
        }
        self.put_table(layout.gdtr, &arch.gdtr);
        self.put_table(layout.idtr, &arch.idtr);
        for (reg, fields) in &layout.segments {
            self.put_segment(*fields, arch.segment(*reg));
        }
    }

    /// The registers that the area holds; what it does not hold is as in `arch`.
    ///
    /// None: DR6 or DR7 cannot have their values. Other registers are not checked.
    pub(super) fn load(&self, arch: &Arch) -> Option<Arch> {
        let (layout, mut new) = (self.layout, *arch);
        for (number, gpr) in Gpr::ALL[..layout.gprs].iter().enumerate() {
            new.set_gpr(*gpr, self.get(layout.gpr(number)));
        }
        let (dr6, dr7) = (self.get(layout.dr6), self.get(layout.dr7));
        if (dr6 | dr7) >> 32 != 0 {
            return None;
        }
        new.dr6 = (dr6 & dr6::WRITABLE) | dr6::FIXED_ONE;
        new.dr7 = (dr7 & dr7::WRITABLE) | dr7::FIXED_ONE;
        new.cr0 = self.get(layout.cr0);
        new.cr3 = self.get(layout.cr3);
        new.cr4 = self.get(layout.cr4);
        new.efer = layout.efer.map_or(arch.efer, |field| self.get(field));
        new.rflags = (self.get(layout.rflags) & rflags::DEFINED) | rflags::FIXED_ONE;
        new.set_rip(self.get(layout.rip));
        new.msrs.smbase = self.get(layout.smbase);
        new.shadow = match self.get(layout.shadow) {
            shadow if shadow & SHADOW_MOV_SS != 0 => Shadow::MovSs,
            shadow if shadow & SHADOW_STI != 0 => Shadow::Sti,
            _ => Shadow::None,
        };
        new.gdtr = self.table(layout.gdtr);
        new.idtr = self.table(layout.idtr);
        for (reg, fields) in &layout.segments {
            new.seg[*reg as usize] = self.segment(*fields);
        }
        Some(new)
    }

    fn put(&mut self, Field(at, len): Field, value: u64) {
        let at = at - OFFSET as usize;
        self.bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }

    fn get(&self, Field(at, len): Field) -> u64 {
        let at = at - OFFSET as usize;
        let bytes = &self.bytes[at..at + len];
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn put_table(&mut self, fields: TableFields, table: &Table) {
        self.put(fields.limit, table.limit.into());
        self.put(fields.base, table.base);
    }

    fn table(&self, fields: TableFields) -> Table {
        Table { limit: self.get(fields.limit) as u16, base: self.get(fields.base) }
    }

    /// An unusable segment is one that is not present.
    fn put_segment(&mut self, fields: SegmentFields, segment: &Segment) {
        let present = if segment.unusable { 0 } else { attrib::P };
        let rights = (segment.attrib & !attrib::P) | present;
        self.put(fields.selector, segment.selector.into());
        self.put(fields.attrib, u64::from(rights) << fields.attrib_shift);
        self.put(fields.limit, segment.limit.into());
        self.put(fields.base, segment.base);
    }

    fn segment(&self, fields: SegmentFields) -> Segment {
        let rights = (self.get(fields.attrib) >> fields.attrib_shift) as u16 & attrib::RIGHTS;
        Segment {
            selector: self.get(fields.selector) as u16,
            attrib: rights,
            unusable: rights & attrib::P == 0,
            limit: self.get(fields.limit) as u32,
            base: self.get(fields.base),
        }
    }
}

impl Layout {
    fn gpr(&self, number: usize) -> Field {
        let at = self.rax.wrapping_add_signed(self.gpr_step * number as isize);
        Field(at, self.gpr_len)
    }
}
