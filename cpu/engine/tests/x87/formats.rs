//! The four formats of FNSTENV, which depend on mode and operand size.

use cpu_defs::{Gpr, Reg, SegReg, cpuid_bit};
use cpu_engine::supported_cpuid;

use super::guest::{Guest, START};

const FLD_BX: &[u8] = &[0xD9, 0x07];
const OPERAND: u64 = 0x30;
/// Segment of the data.
const DATA: u64 = 0x1234;

/// `fld dword [bx]; fnstenv [bx+0x10]; fldenv [bx+0x10]; fnstenv [bx+0x40]; hlt` in 16-bit code.
fn program(prefix: &[u8]) -> Vec<u8> {
    let mut code = FLD_BX.to_vec();
    for (modrm, at) in [(0x77, 0x10), (0x67, 0x10), (0x77, 0x40)] {
        code.extend_from_slice(prefix);
        code.extend_from_slice(&[0xD9, modrm, at]);
    }
    code.push(0xF4);
    code
}

/// Loads from DS:BX, whose linear address is that of [`DATA`] and [`OPERAND`].
fn real_mode(prefix: &[u8]) -> Guest {
    let mut guest = Guest::real_mode(|a| a.db(&program(prefix)).unwrap());
    keep_pointers(&mut guest);
    guest.set_segment(SegReg::Ds, DATA, 0x93);
    guest.set_gpr(Gpr::Rbx, OPERAND);
    guest
}

/// Some of Intel's processors note operands only when there is an exception, and selectors never.
fn keep_pointers(guest: &mut Guest) {
    let mut table = supported_cpuid();
    for leaf in table.iter_mut().filter(|leaf| (leaf.function, leaf.index) == (7, 0)) {
        leaf.ebx &= !(cpuid_bit::FDP_EXCPTN_ONLY.mask() | cpuid_bit::ZERO_FCS_FDS.mask());
    }
    guest.vcpu.set_cpuid(table);
}

fn words<const N: usize>(guest: &Guest, at: u64) -> [u16; N] {
    std::array::from_fn(|number| u16::from_le_bytes(guest.read(at + 2 * number as u64)))
}

fn dwords<const N: usize>(guest: &Guest, at: u64) -> [u32; N] {
    std::array::from_fn(|number| u32::from_le_bytes(guest.read(at + 4 * number as u64)))
}

/// Linear address of the operand.
const LINEAR: u64 = (DATA << 4) + OPERAND;

#[test]
fn real_mode_saves_linear_addresses_in_20_bits() {
    let mut guest = real_mode(&[]);
    guest.run_to_hlt();
    let at = LINEAR + 0x10;
    let upper = (LINEAR >> 16 << 12) as u16;
    let expected = [0x40, 0x3800, 0x1555, START as u16, 0x107, LINEAR as u16, upper];
    let saved = words::<7>(&guest, at);
    assert_eq!(saved[3..], expected[3..]);
    assert_eq!(words::<4>(&guest, LINEAR + 0x40 + 6), words::<4>(&guest, at + 6));
}

#[test]
fn real_mode_saves_linear_addresses_in_32_bits() {
    let mut guest = real_mode(&[0x66]);
    guest.run_to_hlt();
    let at = LINEAR + 0x10;
    let low = 0xFFFF_0000 | (LINEAR as u32 & 0xFFFF);
    let upper = (LINEAR >> 16 << 12) as u32;
    let saved = dwords::<7>(&guest, at);
    assert_eq!(saved[..3].iter().map(|field| field >> 16).collect::<Vec<_>>(), [0xFFFF; 3]);
    assert_eq!(saved[3..], [0xFFFF_0000 | START as u32, 0x107, low, upper]);
    assert_eq!(dwords::<4>(&guest, LINEAR + 0x40 + 12), dwords::<4>(&guest, at + 12));
}

#[test]
fn virtual_8086_mode_is_like_real_mode() {
    let mut guest = real_mode(&[]);
    guest.set(Reg::Cr0, 0x11);
    guest.set(Reg::Rflags, 0x2_3002);
    for segment in [SegReg::Es, SegReg::Cs, SegReg::Ss, SegReg::Fs, SegReg::Gs] {
        guest.set_segment(segment, 0, 0xF3);
    }
    guest.set_segment(SegReg::Ds, DATA, 0xF3);
    // HLT is privileged: the run ends without an IDT.
    guest.run();
    let upper = (LINEAR >> 16 << 12) as u16;
    let saved = words::<7>(&guest, LINEAR + 0x10);
    assert_eq!(saved[3..], [START as u16, 0x107, LINEAR as u16, upper]);
}

#[test]
fn protected_mode_saves_selectors() {
    // fld dword [ebx]; fnstenv [ebx+0x10]; data16 fnstenv [ebx+0x40]; hlt
    let code = [0xD9, 0x03, 0xD9, 0x73, 0x10, 0x66, 0xD9, 0x73, 0x40, 0xF4];
    let mut guest = Guest::protected_mode(|a| a.db(&code).unwrap());
    keep_pointers(&mut guest);
    guest.set_gpr(Gpr::Rbx, LINEAR);
    guest.run_to_hlt();
    assert_eq!(
        dwords::<4>(&guest, LINEAR + 0x10 + 12),
        [START as u32, 8 | 0x103 << 16, LINEAR as u32, 0xFFFF_0010]
    );
    assert_eq!(words::<4>(&guest, LINEAR + 0x40 + 6), [START as u16, 8, LINEAR as u16, 0x10]);
}
