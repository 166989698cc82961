//! The registers that a processor starts with: TLFS, "HV_INITIAL_VP_CONTEXT", "HV_X64_SEGMENT_REGISTER",
//! "HV_X64_TABLE_REGISTER".

use cpu_defs::{Gpr, Reg, SegField, SegReg, TableField, attrib};

/// Bytes of the structure.
pub const SIZE: usize = 224;

/// Segments in their order there.
const SEGMENTS: [SegReg; 8] = [
    SegReg::Cs,
    SegReg::Ds,
    SegReg::Es,
    SegReg::Fs,
    SegReg::Gs,
    SegReg::Ss,
    SegReg::Tr,
    SegReg::Ldtr,
];
const FIRST_SEGMENT: usize = 24;
const IDTR: usize = 152;
const GDTR: usize = 168;
const EFER: usize = 184;
const PAT: usize = 216;
/// Registers of 64 bits, and where they are.
const WORDS: [(Reg, usize); 6] = [
    (Reg::Rip, 0),
    (Reg::Gpr(Gpr::Rsp), 8),
    (Reg::Rflags, 16),
    (Reg::Cr0, 192),
    (Reg::Cr3, 200),
    (Reg::Cr4, 208),
];

/// The structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpContext {
    /// Values of registers.
    pub registers: Vec<(Reg, u64)>,
    /// EFER, with LMA.
    pub efer: u64,
    /// IA32_PAT.
    pub pat: u64,
}

impl VpContext {
    /// What the bytes hold.
    #[must_use]
    pub fn of(bytes: &[u8; SIZE]) -> VpContext {
        let word = |at: usize| u64::from_le_bytes(field(bytes, at));
        let mut registers: Vec<_> = WORDS.iter().map(|&(reg, at)| (reg, word(at))).collect();
        for (segment, at) in SEGMENTS.into_iter().zip((FIRST_SEGMENT..).step_by(16)) {
            registers.extend(segment_of(segment, &field(bytes, at)));
        }
        let reg = [Reg::Idtr as fn(TableField) -> Reg, Reg::Gdtr];
        for (table, at) in reg.into_iter().zip([IDTR, GDTR]) {
            registers.extend(table_of(table, &field(bytes, at)));
        }
        VpContext { registers, efer: word(EFER), pat: word(PAT) }
    }

    /// The value of a register; 0 for one that is not there.
    #[must_use]
    pub fn value(&self, reg: Reg) -> u64 {
        self.registers.iter().find(|(other, _)| *other == reg).map_or(0, |(_, value)| *value)
    }
}

/// The parts of a HV_X64_SEGMENT_REGISTER: base, limit, selector, attributes. One that is not present
/// cannot be used.
#[must_use]
pub fn segment_of(segment: SegReg, bytes: &[u8; 16]) -> [(Reg, u64); 4] {
    let attributes = u16::from_le_bytes(field(bytes, 14));
    let unusable = if attributes & attrib::P == 0 { attrib::UNUSABLE } else { 0 };
    [
        (SegField::Base, u64::from_le_bytes(field(bytes, 0))),
        (SegField::Limit, u32::from_le_bytes(field(bytes, 8)).into()),
        (SegField::Selector, u16::from_le_bytes(field(bytes, 12)).into()),
        (SegField::Attrib, u64::from(u32::from(attributes) | unusable)),
    ]
    .map(|(part, value)| (Reg::Segment(segment, part), value))
}

/// The parts of a HV_X64_TABLE_REGISTER: limit and base, behind padding.
#[must_use]
pub fn table_of(table: impl Fn(TableField) -> Reg, bytes: &[u8; 16]) -> [(Reg, u64); 2] {
    [
        (table(TableField::Limit), u16::from_le_bytes(field(bytes, 6)).into()),
        (table(TableField::Base), u64::from_le_bytes(field(bytes, 8))),
    ]
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hv_47_start_has_every_field_at_its_place() {
        let mut bytes = [0; SIZE];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = place as u8;
        }
        let context = VpContext::of(&bytes);
        assert_eq!(context.value(Reg::Rip), 0x0706_0504_0302_0100);
        assert_eq!(context.value(Reg::Segment(SegReg::Cs, SegField::Limit)), 0x2322_2120);
        assert_eq!(context.value(Reg::Segment(SegReg::Cs, SegField::Selector)), 0x2524);
        assert_eq!(
            context.value(Reg::Segment(SegReg::Ldtr, SegField::Base)),
            0x8F8E_8D8C_8B8A_8988
        );
        assert_eq!(context.value(Reg::Idtr(TableField::Limit)), 0x9F9E);
        assert_eq!(context.value(Reg::Gdtr(TableField::Base)), 0xB7B6_B5B4_B3B2_B1B0);
        assert_eq!(context.efer, 0xBFBE_BDBC_BBBA_B9B8);
        assert_eq!(context.value(Reg::Cr4), 0xD7D6_D5D4_D3D2_D1D0);
        assert_eq!(context.pat, 0xDFDE_DDDC_DBDA_D9D8);
    }

    #[test]
    fn hv_47_start_with_a_segment_that_is_not_present_leaves_it_unusable() {
        let mut bytes = [0; 16];
        let attributes = |bytes: &[u8; 16]| segment_of(SegReg::Ds, bytes)[3].1;
        assert_eq!(attributes(&bytes), attrib::UNUSABLE.into());
        bytes[14] = 0x93;
        assert_eq!(attributes(&bytes), 0x93);
    }
}
