//! Translated code with any address reaches what tier 0 reaches: registers, memory and the end are the
//! same, and what lies around the guest's memory stays as it is. Tier 0 has no way to memory but the
//! map of the guest's pages, so what is read or written elsewhere shows.

use cpu_engine::{Exit, Gpr, Pending, Reg, SegField, SegReg, TableField, Vcpu};

use crate::guest::undefined_flags_are_alike;
use crate::machine::{CODE, Machine, RAM, TABLES};
use crate::processor::{self, Mode};
use crate::random::Random;

/// How often a program runs, with other addresses each time.
const PASSES: u32 = 4;
/// Instructions of a program.
const LEN: u64 = 24;
/// Tables above a page, with five levels.
const LEVELS: u64 = 5;
/// Bits of an entry.
const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const LARGE: u64 = 0x80;
/// Accessed and dirty.
const SEEN: u64 = 0x60;
/// Exits of one pass after which it is over.
const MAX_EXITS: u32 = 100;

/// Opcodes with a memory operand: prefix, opcode, bytes of the immediate.
const WITH_OPERAND: [(&[u8], &[u8], usize); 40] = [
    (&[], &[0x00], 0),
    (&[], &[0x01], 0),
    (&[], &[0x03], 0),
    (&[], &[0x2B], 0),
    (&[], &[0x31], 0),
    (&[], &[0x39], 0),
    (&[], &[0x63], 0),
    (&[], &[0x69], 4),
    (&[], &[0x80], 1),
    (&[], &[0x83], 1),
    (&[], &[0x86], 0),
    (&[], &[0x87], 0),
    (&[], &[0x88], 0),
    (&[], &[0x89], 0),
    (&[], &[0x8A], 0),
    (&[], &[0x8B], 0),
    (&[], &[0x8F], 0),
    (&[], &[0xC1], 1),
    (&[], &[0xC7], 4),
    (&[], &[0xF7], 0),
    (&[], &[0xFE], 0),
    (&[], &[0xFF], 0),
    (&[0xF0], &[0x01], 0),
    (&[0xF0], &[0x0F, 0xB1], 0),
    (&[0xF0], &[0x0F, 0xC1], 0),
    (&[], &[0x0F, 0x44], 0),
    (&[], &[0x0F, 0x94], 0),
    (&[], &[0x0F, 0xA5], 0),
    (&[], &[0x0F, 0xAB], 0),
    (&[], &[0x0F, 0xB6], 0),
    (&[], &[0x0F, 0xBE], 0),
    (&[], &[0x0F, 0xC7], 0),
    (&[], &[0x0F, 0x10], 0),
    (&[], &[0x0F, 0x11], 0),
    (&[], &[0x0F, 0x28], 0),
    (&[], &[0x0F, 0x29], 0),
    (&[0x66], &[0x0F, 0x6F], 0),
    (&[0xF3], &[0x0F, 0x7F], 0),
    (&[0xF2], &[0x0F, 0x58], 0),
    (&[], &[0xDD], 0),
];

/// Opcodes whose operand is the stack or what RSI and RDI point to.
const IMPLICIT: [&[u8]; 14] = [
    &[0x50],
    &[0x58],
    &[0x54],
    &[0x5C],
    &[0x6A, 0x80],
    &[0x9C],
    &[0xC9],
    &[0xA4],
    &[0x48, 0xA5],
    &[0x48, 0xAB],
    &[0x48, 0xAD],
    &[0xAE],
    &[0xA6],
    &[0xD7],
];

/// Runs the same program in both tiers and compares.
pub fn run(machine: &mut Machine, random: &Random) {
    let [translated, interpreted] =
        [true, false].map(|translated| passes(machine, random.clone(), translated));
    if !undefined_flags_are_alike() {
        // Programs may go elsewhere then, but not outside.
        return;
    }
    for (pass, (translated, interpreted)) in translated.iter().zip(&interpreted).enumerate() {
        let [translated, interpreted] = [translated, interpreted].map(|seen| &seen.registers);
        assert_eq!(translated, interpreted, "pass {pass}");
    }
    for (pass, (translated, interpreted)) in translated.iter().zip(&interpreted).enumerate() {
        let different = translated.memory.iter().zip(&interpreted.memory).position(|(a, b)| a != b);
        assert_eq!(different, None, "pass {pass}: guest memory, in bytes");
    }
}

/// What a pass has left.
struct Seen {
    registers: Vec<(String, u64)>,
    memory: Vec<u8>,
}

fn passes(machine: &mut Machine, mut random: Random, translated: bool) -> Vec<Seen> {
    let random = &mut random;
    machine.fill(random);
    let mode = random.pick(&[Mode::Long, Mode::LongUser, Mode::FiveLevels]);
    let mut vcpu = processor::in_mode(machine, mode, random);
    vcpu.set_translated(translated);
    // No fault is handled: it becomes a shutdown, with the processor where it was.
    let _ = vcpu.set_reg(Reg::Idtr(TableField::Limit), 0);
    let flags = 2 | random.next() & 0x8D5;
    let start = CODE + random.below(0x80);
    let _ = vcpu.set_reg(Reg::Rip, start);
    let program = Program::new(random);
    processor::load_code(machine, &vcpu, &program.code);
    let code_flags = if mode == Mode::LongUser { USER } else { 0 };
    fill_tables(machine, random, code_flags);
    let mut seen = Vec::new();
    for _ in 0..PASSES {
        let _ = vcpu.set_reg(Reg::Rip, start);
        let _ = vcpu.set_reg(Reg::Rflags, flags);
        disturb(&mut vcpu, random);
        if random.chance(30) {
            fill_tables(machine, random, code_flags);
            machine.kick.flush();
        }
        let mut end = random.clone();
        let exit = until_the_end(&mut vcpu, &mut end, start, &program);
        machine.check_canaries();
        seen.push(Seen { registers: registers(&vcpu, &exit), memory: machine.memory() });
        random.next();
    }
    seen
}

/// Other addresses.
fn disturb(vcpu: &mut Vcpu, random: &mut Random) {
    for gpr in Gpr::ALL {
        let _ = vcpu.set_reg(Reg::Gpr(gpr), address(random));
    }
    for reg in [SegReg::Fs, SegReg::Gs] {
        let _ = vcpu.set_reg(Reg::Segment(reg, SegField::Base), address(random));
    }
}

/// Five tables in a row, which lead to RAM, to nothing, or past RAM, and to the code at its place. They
/// can be read through themselves, not written: when a stale translation goes is the tiers' own.
fn fill_tables(machine: &mut Machine, random: &mut Random, code_flags: u64) {
    for level in 0..LEVELS {
        let next = TABLES + (level + 1) * 0x1000;
        for index in 0..512 {
            let entry = match random.below(16) {
                _ if level + 1 == LEVELS => page_entry(random, index),
                _ if index == 0 => next | WRITABLE | USER,
                0 => random.next() & !PRESENT,
                1 if level >= 2 => random.below(2) << 30 | LARGE | USER,
                _ => next | random.pick(&[0, WRITABLE]) | USER,
            };
            let present = if random.chance(95) || index == 0 { PRESENT } else { 0 };
            machine.write_u64(TABLES + level * 0x1000 + index * 8, entry | present | SEEN);
        }
    }
    let place = TABLES + (LEVELS - 1) * 0x1000 + (CODE >> 12) * 8;
    machine.write_u64(place, CODE | code_flags | PRESENT | SEEN);
}

fn page_entry(random: &mut Random, index: u64) -> u64 {
    let page = match random.below(16) {
        0 => RAM + random.below(4) * 0x1000,
        1 => 1 << random.pick(&[20, 32, 40, 46]),
        _ => index * 0x1000 % RAM,
    };
    let table = (TABLES..TABLES + LEVELS * 0x1000).contains(&page);
    let writable = if table || random.chance(20) { 0 } else { WRITABLE };
    let execute_disable = if random.chance(10) { 1 << 63 } else { 0 };
    page | writable | execute_disable | if random.chance(80) { USER } else { 0 }
}

/// In mapped memory, at the edge of a page, at the edges of what is canonical, anywhere.
fn address(random: &mut Random) -> u64 {
    let near = random.below(32).wrapping_sub(16);
    match random.below(8) {
        0..=2 => random.below(RAM),
        3 => (random.below(RAM) & !0xFFF).wrapping_add(near),
        4 => random.pick(&[1 << 47, 1 << 56, !0 << 47, !0 << 56, 0, RAM]).wrapping_add(near),
        5 => random.below(RAM) | random.next() << 40,
        _ => random.value(),
    }
}

/// Straight-line code with jumps over one instruction, which ends with HLT.
struct Program {
    code: Vec<u8>,
    /// Offsets of its instructions.
    starts: Vec<u64>,
}

impl Program {
    fn new(random: &mut Random) -> Self {
        let mut program = Program { code: Vec::new(), starts: Vec::new() };
        for _ in 0..LEN {
            let one = instruction(random);
            if random.chance(10) {
                program.push(&[0x70 | random.below(16) as u8, one.len() as u8]);
            }
            program.push(&one);
        }
        program.push(&[0xF4]);
        program
    }

    fn push(&mut self, instruction: &[u8]) {
        self.starts.push(self.code.len() as u64);
        self.code.extend_from_slice(instruction);
    }

    /// Where the instruction at `offset` ends, unless it is the last one or none of these.
    fn behind(&self, offset: u64) -> Option<u64> {
        let number = self.starts.binary_search(&offset).ok()?;
        self.starts.get(number + 1).copied()
    }
}

fn instruction(random: &mut Random) -> Vec<u8> {
    let mut code = Vec::new();
    match random.below(8) {
        0 => {
            let register = random.below(16) as u8;
            code.extend_from_slice(&[0x48 | register >> 3, 0xB8 | register & 7]);
            code.extend_from_slice(&address(random).to_le_bytes());
        }
        1 => code.extend_from_slice(random.pick(&IMPLICIT)),
        _ => with_operand(random, &mut code),
    }
    code
}

fn with_operand(random: &mut Random, code: &mut Vec<u8>) {
    let (prefix, opcode, immediate) = random.pick(&WITH_OPERAND);
    for (percent, byte) in [(10, 0x64), (10, 0x65), (5, 0x67)] {
        if random.chance(percent) {
            code.push(byte);
        }
    }
    code.extend_from_slice(prefix);
    if random.chance(70) {
        code.push(0x40 | random.below(16) as u8);
    }
    code.extend_from_slice(opcode);
    let mode = random.below(3) as u8;
    let mut modrm = mode << 6 | random.below(64) as u8;
    match opcode {
        // INC and DEC: what jumps may never come back.
        [0xFF] => modrm &= !0x30,
        // CMPXCHG8B: RDRAND is never the same.
        [0x0F, 0xC7] => modrm = modrm & !0x38 | 0x08,
        _ => {}
    }
    code.push(modrm);
    let sib = (modrm & 7 == 4).then(|| random.next() as u8);
    code.extend(sib);
    let far = mode == 2 || (mode == 0 && (modrm & 7 == 5 || sib.is_some_and(|sib| sib & 7 == 5)));
    let displacement = if far { 4 } else { usize::from(mode) };
    let near = random.chance(60);
    for _ in 0..displacement + immediate {
        code.push(if near { 0 } else { random.next() as u8 });
    }
}

/// Runs to the HLT behind the program, over what faults, or until the processor is elsewhere.
fn until_the_end(vcpu: &mut Vcpu, random: &mut Random, start: u64, program: &Program) -> Exit {
    let mut exit = vcpu.run(false);
    for _ in 0..MAX_EXITS {
        let next = match vcpu.pending() {
            Some(Pending::IoIn { bytes } | Pending::MmioRead { bytes }) => {
                let data: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
                vcpu.complete(&data)
            }
            Some(_) => vcpu.complete(&[]),
            None if exit == Exit::Hlt || !skip(vcpu, start, program) => break,
            None => None,
        };
        exit = next.unwrap_or_else(|| vcpu.run(false));
    }
    exit
}

/// Goes on behind the instruction at RIP, if that is in the program and not the last one.
fn skip(vcpu: &mut Vcpu, start: u64, program: &Program) -> bool {
    let behind = program.behind(vcpu.reg(Reg::Rip).wrapping_sub(start));
    behind.is_some_and(|offset| vcpu.set_reg(Reg::Rip, start + offset).is_ok())
}

fn registers(vcpu: &Vcpu, exit: &Exit) -> Vec<(String, u64)> {
    let general = Gpr::ALL.map(Reg::Gpr);
    let others = [Reg::Rip, Reg::Rflags, Reg::Cr2];
    let mut seen: Vec<_> =
        general.into_iter().chain(others).map(|reg| (format!("{reg:?}"), vcpu.reg(reg))).collect();
    seen.push((format!("{exit:?}"), 0));
    seen.extend(
        vcpu.xsave().into_iter().enumerate().map(|(at, byte)| (format!("xsave {at}"), byte.into())),
    );
    seen
}
