//! Random code runs through the translator and through tier 0 alone to the same state: registers,
//! status flags, memory, and the place of the fault that ends it.
//!
//! `LOCKSTEP_PROGRAMS=n` tries more programs, `LOCKSTEP_SEED=n` others.

mod guest;

use cpu_defs::{Gpr, Reg};
use cpu_engine::Exit;
use guest::{Guest, START};
use iced_x86::{Decoder, DecoderOptions, FlowControl};

/// Where pointers lead: the end of a page, with pages around it.
const DATA: u64 = 0x4_0FF0;
/// Bytes around [`DATA`] that are compared.
const WINDOW: u64 = 0x800;
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

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

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

fn load_pointer(random: &mut Random, code: &mut Vec<u8>) {
    let register = random.below(16) as u8;
    code.extend_from_slice(&[0x48 | register >> 3, 0xB8 | (register & 7)]);
    let near = random.below(64) as u64;
    code.extend_from_slice(&(DATA + near).to_le_bytes());
}

fn short(random: &mut Random, code: &mut Vec<u8>) {
    rex(random, code);
    code.extend_from_slice(SHORT[random.below(SHORT.len())]);
}

fn jump(random: &mut Random, code: &mut Vec<u8>) {
    code.extend_from_slice(&[0x70 | random.below(16) as u8, random.below(8) as u8]);
}

fn plain(random: &mut Random, code: &mut Vec<u8>) {
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

fn machine(code: &[u8], random: &mut Random) -> Guest {
    let mut guest = Guest::long_mode(|a| a.nop().unwrap());
    guest.load(START, code);
    for gpr in Gpr::ALL {
        let pointer = DATA + (random.next() & 0x3F);
        guest.set_gpr(gpr, if random.chance(70) { pointer } else { random.next() });
    }
    guest.set_gpr(Gpr::Rsp, DATA + 0x100);
    guest.set(Reg::Rflags, 2 | random.next() & 0x8D5);
    for at in 0..WINDOW / 8 {
        guest.write_u64(DATA - WINDOW / 2 + at * 8, random.next());
    }
    guest
}

/// Everything that a program may change.
fn state(guest: &Guest, exit: &Exit) -> Vec<(String, u64)> {
    let mut state: Vec<(String, u64)> =
        Gpr::ALL.iter().map(|&gpr| (format!("{gpr:?}"), guest.gpr(gpr))).collect();
    state.push(("rip".into(), guest.rip()));
    state.push(("rflags".into(), guest.vcpu.reg(Reg::Rflags)));
    state.push((guest::describe(exit), 0));
    for at in 0..WINDOW / 8 {
        let at = DATA - WINDOW / 2 + at * 8;
        state.push((format!("memory {at:#x}"), guest.read_u64(at)));
    }
    state
}

fn listing(code: &[u8]) -> String {
    let mut decoder = Decoder::with_ip(64, code, START, DecoderOptions::NONE);
    let mut text = String::new();
    for instruction in &mut decoder {
        let (from, len) = ((instruction.ip() - START) as usize, instruction.len());
        let bytes = &code[from..(from + len).min(code.len())];
        text += &format!("{:#x} {:?} {bytes:02x?}\n", instruction.ip(), instruction.code());
        if instruction.flow_control() == FlowControl::Exception {
            break;
        }
    }
    text
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn both_tiers_reach_the_same_state() {
    let seed = number("LOCKSTEP_SEED", 1);
    for case in 0..number("LOCKSTEP_PROGRAMS", 200) {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (case + 1) << 20);
        let code = program(&mut random);
        let start = random.0;
        let [translated, interpreted] = [true, false].map(|translated| {
            let mut guest = machine(&code, &mut Random(start));
            guest.vcpu.set_translated(translated);
            let exit = guest.vcpu.run(false);
            state(&guest, &exit)
        });
        let differences: Vec<_> = translated
            .iter()
            .zip(&interpreted)
            .filter(|(translated, interpreted)| translated != interpreted)
            .collect();
        assert!(
            differences.is_empty(),
            "seed {seed}, program {case}: translated, interpreted: {differences:x?}\n{}",
            listing(&code)
        );
    }
}
