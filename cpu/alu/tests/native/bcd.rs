//! DAA, DAS, AAA, AAS, AAM, AAD: every AX or AL with every flag that they read.

use cpu_alu::{bcd, undefined};

use crate::compatibility_mode::Routine;
use crate::operands::{FLAGS, agree};

fn compare(
    instruction: &[u8],
    operands: impl Iterator<Item = u16>,
    ours: impl Fn(u16, u32) -> (u16, u32),
    undefined: u32,
) {
    let host = Routine::new(instruction);
    for ax in operands {
        for flags in FLAGS {
            let (eax, host_flags) = host.run(u32::from(ax), flags);
            let case = || format!("ax {ax:#x}, flags {flags:#x}");
            agree(case, ours(ax, flags), (eax as u16, host_flags), undefined);
        }
    }
}

/// AX with the new AL of an instruction that leaves AH alone.
fn with_al(ax: u16, (al, flags): (u8, u32)) -> (u16, u32) {
    ((ax & 0xff00) | u16::from(al), flags)
}

#[test]
fn daa_and_das() {
    let daa = |ax, flags| with_al(ax, bcd::daa(ax as u8, flags));
    compare(&[0x27], 0x5500..=0x55ff, daa, undefined::PACKED_DECIMAL);
    let das = |ax, flags| with_al(ax, bcd::das(ax as u8, flags));
    compare(&[0x2f], 0x5500..=0x55ff, das, undefined::PACKED_DECIMAL);
}

#[test]
fn aaa_and_aas() {
    compare(&[0x37], 0..=0xffff, bcd::aaa, undefined::UNPACKED_DECIMAL);
    compare(&[0x3f], 0..=0xffff, bcd::aas, undefined::UNPACKED_DECIMAL);
}

#[test]
fn aam_and_aad_take_any_base() {
    for base in [1, 2, 7, 10, 16, 255] {
        let aam = |ax, _| bcd::aam(ax as u8, base).expect("the base is not zero");
        compare(&[0xd4, base], 0x3300..=0x33ff, aam, undefined::DECIMAL_DIVISION);
        let aad = |ax, _| bcd::aad(ax, base);
        compare(&[0xd5, base], (0..=0xffff).step_by(7), aad, undefined::DECIMAL_DIVISION);
    }
    assert!(bcd::aam(0x33, 0).is_err());
}
