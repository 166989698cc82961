//! Instructions of more than 15 bytes, which raise #GP(0) where other bad bytes raise #UD.
//!
//! SDM volume 3, "Interrupt 13—General Protection Exception (#GP)". The decoder calls both invalid.
//! They are told apart by leaving out a prefix that has no effect: only with one can an
//! instruction be that long, and without it the decoder says whether it still wants bytes.

use iced_x86::{Decoder, DecoderError, Instruction};

use super::digest::MAX_LEN;

/// Prefixes of one group, of which one counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    OperandSize,
    AddressSize,
    Segment,
    Repeat,
    Lock,
    Rex,
}

/// Whether these bytes, which the decoder refuses, begin an instruction of more than 15.
pub(super) fn is_too_long(bytes: &[u8], bits: u8, options: u32) -> bool {
    if bytes.len() < MAX_LEN {
        return false;
    }
    let Some(redundant) = redundant_prefix(bytes, bits) else {
        return false;
    };
    let rest = [&bytes[..redundant], &bytes[redundant + 1..MAX_LEN]].concat();
    let mut decoder = Decoder::with_ip(u32::from(bits), &rest, 0, options);
    decoder.decode_out(&mut Instruction::default());
    decoder.last_error() == DecoderError::NoMoreBytes
}

/// Position of a prefix that another of its group overrides, or of a REX that is not the last.
fn redundant_prefix(bytes: &[u8], bits: u8) -> Option<usize> {
    let groups: Vec<Group> = bytes.iter().map_while(|&byte| group(byte, bits)).collect();
    (0..groups.len()).find(|&at| match groups[at] {
        Group::Rex => at + 1 < groups.len(),
        group => groups[at + 1..].contains(&group),
    })
}

fn group(byte: u8, bits: u8) -> Option<Group> {
    Some(match byte {
        0x66 => Group::OperandSize,
        0x67 => Group::AddressSize,
        0x26 | 0x2E | 0x36 | 0x3E | 0x64 | 0x65 => Group::Segment,
        0xF2 | 0xF3 => Group::Repeat,
        0xF0 => Group::Lock,
        0x40..=0x4F if bits == 64 => Group::Rex,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_prefixes(prefix: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![prefix; MAX_LEN];
        let start = MAX_LEN - rest.len();
        bytes[start..].copy_from_slice(rest);
        bytes
    }

    #[test]
    fn prefixes_alone_are_too_long() {
        for prefix in [0x66, 0x67, 0x2E, 0x64, 0xF2, 0xF3, 0xF0, 0x48] {
            assert!(is_too_long(&with_prefixes(prefix, &[]), 64, 0), "{prefix:#x}");
        }
        assert!(is_too_long(&with_prefixes(0x66, &[]), 16, 0));
    }

    #[test]
    fn an_instruction_that_wants_another_byte_is_too_long() {
        for rest in [&[0x0F][..], &[0x0F, 0x38], &[0x8B], &[0x8B, 0x04], &[0x8B, 0x43]] {
            assert!(is_too_long(&with_prefixes(0x2E, rest), 64, 0), "{rest:x?}");
        }
    }

    #[test]
    fn an_undefined_instruction_of_15_bytes_is_not() {
        for rest in [&[0x0F, 0x24, 0xC0][..], &[0xF0, 0x90], &[0x8C, 0xF8]] {
            assert!(!is_too_long(&with_prefixes(0x2E, rest), 64, 0), "{rest:x?}");
        }
    }
}
