//! An instruction that faults has changed nothing: random bytes as code in every mode, with operands
//! at the ends of segments and pages. Without handlers the fault shuts down with the state kept.
//!
//! Not here: repeated string instructions, which keep the iterations done; accessed and dirty bits,
//! which are set beforehand.

mod guest;

use cpu_defs::{Gpr, Reg, SegField, SegReg, TableField};
use cpu_engine::{Events, Exit};
use guest::{Guest, PAGE_TABLE, START, descriptor, gate, state_registers};

const GDT: u64 = 0x5000;
const TSS: u64 = 0x6000;
/// The memory that programs may write.
const DATA: u64 = 0xB000;
const DATA_LEN: u64 = 0x2000;
const CASES: u64 = 8_000;

/// A generator of numbers; every seed gives its own sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        self.0 ^ self.0 >> 29
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 20) % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Real,
    Virtual8086,
    Protected,
    ProtectedUser,
    Long,
    LongUser,
}

const MODES: [Mode; 6] = [
    Mode::Real,
    Mode::Virtual8086,
    Mode::Protected,
    Mode::ProtectedUser,
    Mode::Long,
    Mode::LongUser,
];

/// Opcodes with more than one effect, in the one-byte map and behind 0F.
const OPCODES: [u8; 76] = [
    0x06, 0x07, 0x17, 0x1F, 0x50, 0x54, 0x58, 0x5C, 0x60, 0x61, 0x62, 0x63, 0x68, 0x6A, 0x6C, 0x6D,
    0x6E, 0x6F, 0x80, 0x81, 0x83, 0x86, 0x87, 0x88, 0x89, 0x8C, 0x8D, 0x8E, 0x8F, 0x9A, 0x9C, 0x9D,
    0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5,
    0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF, 0xD0, 0xD1, 0xD3, 0xD7, 0xE0, 0xE1,
    0xE2, 0xE8, 0xE9, 0xEA, 0xEB, 0xF6, 0xF7, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF,
];
const OPCODES_0F: [u8; 40] = [
    0x00, 0x01, 0x02, 0x03, 0x05, 0x07, 0x20, 0x22, 0x21, 0x23, 0x30, 0x32, 0x34, 0x35, 0xA0, 0xA1,
    0xA3, 0xA4, 0xA5, 0xA8, 0xA9, 0xAB, 0xAC, 0xAD, 0xB0, 0xB1, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xBA,
    0xBB, 0xBC, 0xC0, 0xC1, 0xC3, 0xC7, 0xC7, 0xFF,
];

fn machine(mode: Mode) -> Guest {
    let mut guest = match mode {
        Mode::Real => Guest::real_mode(|_| {}),
        Mode::Long | Mode::LongUser => Guest::long_mode(|_| {}),
        _ => Guest::protected_mode(|_| {}),
    };
    let long = matches!(mode, Mode::Long | Mode::LongUser);
    let base = if long { 0 } else { DATA as u32 };
    let gdt = [
        0,
        descriptor(0, 0xF_FFFF, 0x9B, if long { 0xA } else { 0xC }),
        descriptor(base, DATA_LEN as u32 - 1, 0x93, 0x4),
        descriptor(0, 0xF_FFFF, 0xFB, if long { 0xA } else { 0xC }),
        descriptor(base, DATA_LEN as u32 - 1, 0xF3, 0x4),
        descriptor(base, DATA_LEN as u32 - 1, 0x13, 0x4),
        descriptor(0, 0xFFF, 0xFB, 0x4),
        gate(0x08, 0x1000, 0xEC, 3),
        0,
        gate(0x30, 0x1000, 0xEC, 0),
        0,
        descriptor(base, 0xFF, 0xF5, 0x4),
    ];
    for (number, entry) in (0..).zip(gdt) {
        guest.write_u64(GDT + number * 8, entry);
    }
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), gdt.len() as u64 * 8 - 1);
    guest.set(Reg::Idtr(TableField::Base), 0);
    guest.set(Reg::Idtr(TableField::Limit), 0);
    guest.write_u64(TSS + 4, 0x20 | 0x10 << 32);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Base), TSS);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Limit), 0x67);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Attrib), 0x8B);
    // Random data must not be descriptors: their accessed bits would be set.
    guest.set(Reg::Segment(SegReg::Ldtr, SegField::Attrib), 0x1_0082);
    segments(&mut guest, mode);
    if long {
        for page in 0..512 {
            let data = (DATA..DATA + DATA_LEN).contains(&(page << 12));
            let entry = if data { page << 12 | 0x67 } else { page << 12 | 0x65 };
            let mapped = data || page << 12 == START || page == 0xD;
            guest.write_u64(PAGE_TABLE + page * 8, if mapped { entry } else { 0 });
        }
        // The structures are read by the processor alone.
        for page in [GDT >> 12, TSS >> 12] {
            guest.write_u64(PAGE_TABLE + page * 8, page << 12 | 0x63);
        }
        for table in 0..3 {
            let at = guest::PML4 + table * 0x1000;
            let entry = guest.read_u64(at);
            guest.write_u64(at, entry | 0x20);
        }
    }
    guest
}

fn segments(guest: &mut Guest, mode: Mode) {
    let data = [SegReg::Es, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs];
    let (selector, attrib, code, code_attrib) = match mode {
        Mode::Real => (DATA >> 4, 0x93, 0, 0x9B),
        Mode::Virtual8086 => (DATA >> 4, 0xF3, 0, 0xF3),
        Mode::Protected => (0x10, 0x4093, 0x08, 0xC09B),
        Mode::ProtectedUser => (0x23, 0x40F3, 0x1B, 0xC0FB),
        Mode::Long => (0x10, 0xC093, 0x08, 0xA09B),
        Mode::LongUser => (0x23, 0xC0F3, 0x1B, 0xA0FB),
    };
    let short = matches!(mode, Mode::Real | Mode::Virtual8086);
    let limit = if short { 0xFFFF } else { DATA_LEN - 1 };
    for reg in data {
        for (field, value) in [
            (SegField::Selector, selector),
            (SegField::Attrib, attrib),
            (SegField::Limit, limit),
            (SegField::Base, DATA),
        ] {
            guest.set(Reg::Segment(reg, field), value);
        }
    }
    guest.set_flat(SegReg::Cs, code, code_attrib);
    guest.set(Reg::Segment(SegReg::Cs, SegField::Limit), 0xFFFF);
}

fn all_registers() -> Vec<Reg> {
    let tables = [
        Reg::Gdtr(TableField::Base),
        Reg::Gdtr(TableField::Limit),
        Reg::Idtr(TableField::Base),
        Reg::Idtr(TableField::Limit),
    ];
    let high = [Gpr::R8, Gpr::R9, Gpr::R10, Gpr::R11, Gpr::R12, Gpr::R13, Gpr::R14, Gpr::R15];
    let debug = [Reg::Dr0, Reg::Dr1, Reg::Dr2, Reg::Dr3, Reg::Dr7, Reg::Cr8, Reg::Xcr0];
    state_registers().into_iter().chain(tables).chain(high.map(Reg::Gpr)).chain(debug).collect()
}

/// An address near an end of the data, a small number, or anything.
fn operand(random: &mut Random, mode: Mode) -> u64 {
    let long = matches!(mode, Mode::Long | Mode::LongUser);
    let base = if long { DATA } else { 0 };
    let near = random.below(0x30);
    match random.below(8) {
        0 | 1 => base + near,
        2..=4 => (base + DATA_LEN).wrapping_sub(near),
        5 => base + random.below(DATA_LEN),
        6 => random.one_of(&[0, 0x10, 0x18, 0x23, 0x28, 0x3B, 0x4B, 0x5B, 0xFFFF, 1 << 47]),
        _ => random.next(),
    }
}

fn instruction(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for prefix in [0x66, 0x67, 0x26, 0x36, 0xF0] {
        if random.below(6) == 0 {
            bytes.push(prefix);
        }
    }
    if random.below(3) == 0 {
        bytes.push(0x48);
    }
    if random.below(3) == 0 {
        bytes.extend([0x0F, random.one_of(&OPCODES_0F)]);
    } else {
        bytes.push(random.one_of(&OPCODES));
    }
    // ModRM and displacement, or an immediate; small ones are often addresses and selectors.
    bytes.push(random.next() as u8);
    for _ in 0..10 {
        let byte = random.one_of(&[0, 0, 0x10, 0x18, 0x20, 0x28, 0x3B, 0x48, 0x5B, 0xFF]);
        bytes.push(if random.below(4) == 0 { random.next() as u8 } else { byte });
    }
    bytes.truncate(15);
    bytes
}

fn memory(guest: &Guest) -> Vec<u64> {
    let ranges = [(DATA, DATA_LEN), (GDT, 0x80), (TSS, 0x80), (START, 0x10)];
    let words = |(start, len): (u64, u64)| (start..start + len).step_by(8);
    ranges.into_iter().flat_map(words).map(|at| guest.read_u64(at)).collect()
}

/// Runs one random instruction; whether it faulted.
fn try_one(guest: &mut Guest, mode: Mode, seed: u64, registers: &[Reg], initial: &[u64]) -> bool {
    let random = &mut Random(seed);
    random.next();
    for (&reg, &value) in registers.iter().zip(initial) {
        guest.set(reg, value);
    }
    guest.vcpu.set_events(&Events::default());
    for gpr in Gpr::ALL.into_iter().take(10) {
        let value = operand(random, mode);
        guest.set_gpr(gpr, value);
    }
    let code = instruction(random);
    guest.load(START, &code);
    for _ in 0..4 {
        let at = DATA + random.below(DATA_LEN - 8);
        let value = operand(random, mode);
        guest.write_u64(at, value);
    }
    let before: Vec<u64> = registers.iter().map(|&reg| guest.vcpu.reg(reg)).collect();
    let stored = memory(guest);
    let exit = guest.vcpu.step();
    guest.vcpu.complete(&[]);
    if exit != Some(Exit::Shutdown) {
        return false;
    }
    for (&reg, &value) in registers.iter().zip(&before) {
        assert_eq!(guest.vcpu.reg(reg), value, "{reg:?} by {code:x?} in {mode:?}, seed {seed}");
    }
    assert!(memory(guest) == stored, "memory by {code:x?} in {mode:?}, seed {seed}");
    true
}

#[test]
fn an_instruction_that_faults_changes_nothing() {
    let registers = all_registers();
    for mode in MODES {
        let mut guest = machine(mode);
        if mode == Mode::Virtual8086 {
            guest.set(Reg::Rflags, 0x2_3002);
        }
        let initial: Vec<u64> = registers.iter().map(|&reg| guest.vcpu.reg(reg)).collect();
        let faults = (0..CASES)
            .filter(|&seed| try_one(&mut guest, mode, seed, &registers, &initial))
            .count();
        assert!(faults > CASES as usize / 10, "only {faults} faults in {mode:?}");
    }
}
