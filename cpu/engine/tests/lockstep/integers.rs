//! Programs of general registers.

use super::random::Random;
use super::{DATA, compare, machine};

/// Instructions of a program.
const LEN: usize = 40;

/// Opcodes with a ModRM byte; the second number is the length of the immediate.
const PLAIN: [(&[u8], usize); 62] = [
    (&[0x00], 0),
    (&[0x01], 0),
    (&[0x02], 0),
    (&[0x03], 0),
    (&[0x09], 0),
    (&[0x0B], 0),
    (&[0x10], 0),
    (&[0x11], 0),
    (&[0x13], 0),
    (&[0x19], 0),
    (&[0x1A], 0),
    (&[0x21], 0),
    (&[0x23], 0),
    (&[0x28], 0),
    (&[0x29], 0),
    (&[0x2B], 0),
    (&[0x31], 0),
    (&[0x33], 0),
    (&[0x38], 0),
    (&[0x39], 0),
    (&[0x3B], 0),
    (&[0x63], 0),
    (&[0x69], 4),
    (&[0x6B], 1),
    (&[0x80], 1),
    (&[0x81], 4),
    (&[0x83], 1),
    (&[0x83], 1),
    (&[0x84], 0),
    (&[0x85], 0),
    (&[0x86], 0),
    (&[0x87], 0),
    (&[0x88], 0),
    (&[0x89], 0),
    (&[0x89], 0),
    (&[0x8A], 0),
    (&[0x8B], 0),
    (&[0x8B], 0),
    (&[0x8D], 0),
    (&[0x8F], 0),
    (&[0xC0], 1),
    (&[0xC1], 1),
    (&[0xC6], 1),
    (&[0xC7], 4),
    (&[0xD1], 0),
    (&[0xD3], 0),
    (&[0xF6], 0),
    (&[0xF7], 0),
    (&[0xFE], 0),
    (&[0xFF], 0),
    (&[0x0F, 0x42], 0),
    (&[0x0F, 0x4D], 0),
    (&[0x0F, 0x92], 0),
    (&[0x0F, 0x9F], 0),
    (&[0x0F, 0xA4], 1),
    (&[0x0F, 0xAF], 0),
    (&[0x0F, 0xB1], 0),
    (&[0x0F, 0xB6], 0),
    (&[0x0F, 0xBA], 1),
    (&[0x0F, 0xBB], 0),
    (&[0x0F, 0xBF], 0),
    (&[0x0F, 0xC1], 0),
];

/// Opcodes alone.
const SHORT: [&[u8]; 16] = [
    &[0x50],
    &[0x54],
    &[0x57],
    &[0x58],
    &[0x5B],
    &[0x5F],
    &[0x90],
    &[0x91],
    &[0x98],
    &[0x99],
    &[0x9E],
    &[0x9F],
    &[0xF5],
    &[0xF8],
    &[0xF9],
    &[0x0F, 0xC9],
];

/// A program: straight-line code with short jumps forward, and pointers loaded now and then.
fn program(random: &mut Random) -> Vec<u8> {
    let mut code = Vec::new();
    for _ in 0..LEN {
        match random.below(10) {
            0 | 1 => load_pointer(random, &mut code),
            2 => short(random, &mut code),
            3 => jump(random, &mut code),
            _ => plain(random, &mut code),
        }
    }
    // Jumps over the end lead to a HLT.
    code.extend_from_slice(&[0xF4; 16]);
    code
}

fn rex(random: &mut Random, code: &mut Vec<u8>) {
    if random.chance(15) {
        code.push(0x66);
    }
    if random.chance(70) {
        code.push(0x40 | random.below(16) as u8);
    }
}

pub fn load_pointer(random: &mut Random, code: &mut Vec<u8>) {
    let register = random.below(16) as u8;
    code.extend_from_slice(&[0x48 | register >> 3, 0xB8 | (register & 7)]);
    let near = random.below(64) as u64;
    code.extend_from_slice(&(DATA + near).to_le_bytes());
}

pub fn short(random: &mut Random, code: &mut Vec<u8>) {
    rex(random, code);
    code.extend_from_slice(SHORT[random.below(SHORT.len())]);
}

pub fn jump(random: &mut Random, code: &mut Vec<u8>) {
    code.extend_from_slice(&[0x70 | random.below(16) as u8, random.below(8) as u8]);
}

pub fn plain(random: &mut Random, code: &mut Vec<u8>) {
    let (opcode, immediate) = PLAIN[random.below(PLAIN.len())];
    let prefix = if random.chance(10) { Some([0x65, 0x64, 0xF0][random.below(3)]) } else { None };
    code.extend(prefix);
    let word = random.chance(15);
    if word {
        code.push(0x66);
    }
    if random.chance(70) {
        code.push(0x40 | random.below(16) as u8);
    }
    code.extend_from_slice(opcode);
    // No 32-bit displacements: they lead nowhere.
    let mode = [0x00, 0x40, 0xC0][random.below(3)];
    let modrm = mode | random.below(64) as u8;
    code.push(modrm);
    if mode != 0xC0 && modrm & 7 == 4 {
        code.push(random.next() as u8);
    }
    if mode == 0x40 {
        code.push(random.next() as u8);
    }
    let immediate = if immediate == 4 && word { 2 } else { immediate };
    (0..immediate).for_each(|_| code.push(random.next() as u8));
}

#[test]
fn both_tiers_reach_the_same_state() {
    compare(program, machine);
}
