//! Encodings of which AMD's processors think otherwise than the manuals and the decoder.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction};

use super::digest::MAX_LEN;

/// First byte of a VEX prefix of three.
const VEX3: u8 = 0xC4;
/// VEX.W, in the third byte.
const W: u8 = 0x80;
/// The opcode map of 0F3AH, in the second byte.
const MAP_MASK: u8 = 0x1F;
const MAP_0F3A: u8 = 3;

/// Whether these bytes, which end early, begin UD1: nothing behind its opcode is fetched.
pub(super) fn is_ud1(bytes: &[u8], bits: u8) -> bool {
    let mut whole = [0; MAX_LEN];
    whole[..bytes.len()].copy_from_slice(bytes);
    let code = Decoder::new(u32::from(bits), &whole, DecoderOptions::AMD).decode().code();
    matches!(code, Code::Ud1_r16_rm16 | Code::Ud1_r32_rm32 | Code::Ud1_r64_rm64)
}

/// VPERMQ and VPERMPD by an immediate exist without VEX.W as well: if these bytes, which the
/// decoder refuses, may be one, the bytes with it.
pub(super) fn permutation(bytes: &[u8]) -> Option<[u8; MAX_LEN]> {
    let at = vex3(bytes)?;
    let found = bytes[at + 1] & MAP_MASK == MAP_0F3A
        && bytes[at + 2] & W == 0
        && matches!(bytes.get(at + 3), Some(0 | 1));
    found.then(|| {
        let mut wide = [0; MAX_LEN];
        wide[..bytes.len()].copy_from_slice(bytes);
        wide[at + 2] |= W;
        wide
    })
}

/// Whether this is VPEXTRQ or VPINSRQ, which code of 16 and 32 bits has not; the manuals have W
/// ignored there.
pub(super) fn is_wide_dword(instruction: &Instruction, bytes: &[u8]) -> bool {
    matches!(
        instruction.code(),
        Code::VEX_Vpextrd_rm32_xmm_imm8 | Code::VEX_Vpinsrd_xmm_xmm_rm32_imm8
    ) && vex3(bytes).is_some_and(|at| bytes[at + 2] & W != 0)
}

/// Where the VEX prefix of three bytes begins, behind those prefixes that may precede it.
fn vex3(bytes: &[u8]) -> Option<usize> {
    let at = bytes
        .iter()
        .position(|byte| !matches!(byte, 0x26 | 0x2E | 0x36 | 0x3E | 0x64 | 0x65 | 0x67))?;
    (bytes[at] == VEX3 && bytes.len() >= at + 3).then_some(at)
}

#[cfg(test)]
mod tests {
    use crate::decode::{Decoded, decode_one};
    use crate::features::Features;
    use crate::native::Native;

    fn refused(bytes: &[u8], bits: u8, amd: bool) -> bool {
        let mut features = Features::of(&[]);
        features.amd = amd;
        matches!(decode_one(bytes, bits, &features, &mut Native::new()), Decoded::Fault(_))
    }

    #[test]
    fn ud1_is_undefined_without_its_modrm() {
        assert!(refused(&[0x0F, 0xB9], 32, true) && refused(&[0x66, 0x0F, 0xB9], 64, true));
        assert!(refused(&[0x66, 0x0F, 0xB9, 0x9E, 0xB6], 32, true));
        assert!(!refused(&[0x0F, 0xB9], 32, false) && !refused(&[0x0F], 32, true));
        assert!(!refused(&[0x0F, 0xB8], 32, true));
        assert!(refused(&[0x67, 0x66, 0x0F, 0xB9, 0x7A], 16, true));
    }

    #[test]
    fn permutations_of_qwords_need_no_w() {
        for opcode in [0, 1] {
            let code = [0x65, 0xC4, 0xE3, 0x7D, opcode, 0xC8, 0xFC];
            assert!(!refused(&code, 64, true) && refused(&code, 64, false), "{opcode}");
        }
        assert!(refused(&[0xC4, 0xE3, 0x79, 0, 0xC8, 0xFC], 64, true), "128 bits");
    }

    #[test]
    fn qwords_are_neither_extracted_nor_inserted_outside_of_64_bit_mode() {
        for opcode in [0x16, 0x22] {
            let code = [0xC4, 0xE3, 0xF9, opcode, 0xC0, 1];
            assert!(refused(&code, 32, true) && !refused(&code, 64, true), "{opcode:#x}");
            assert!(!refused(&[0xC4, 0xE3, 0x79, opcode, 0xC0, 1], 32, true), "{opcode:#x}");
        }
    }
}
