//! Loops of one block, whose accesses run over the end of a page into one that is there, is not, may only be
//! read, belongs to a device, or holds the loop itself: random loops end in translated code as they do
//! in tier 0, with the same flags and as many instructions, at a fault too.

mod guest;
mod xorshift;

use cpu_defs::{Gpr, Reg};
use cpu_engine::Exit;
use guest::{Guest, PAGE_TABLE, comparable_flags};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use xorshift::Random;

/// Where the program is: behind what its stores reach through [`UPPER`].
const PROGRAM: u64 = 0x1C00;
/// A page whose end is like any other, and the one behind it, which is of some [`Kind`].
const LOWER: u64 = 0x8000;
const UPPER: u64 = 0x9000;
/// Nothing is there.
const DEVICE: u64 = 0x40_0000;
const CASES: u64 = 2_000;

/// What is behind the end of the lower page.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    Absent,
    ReadOnly,
    Device,
    /// The page of the program.
    Code,
}

const KINDS: [Kind; 5] = [Kind::Plain, Kind::Absent, Kind::ReadOnly, Kind::Device, Kind::Code];

const BASES: [AsmRegister64; 4] = [rbp, rdi, rsi, r9];
const VALUES: [AsmRegister64; 7] = [rax, rbx, rcx, rdx, r10, r11, r12];
/// Turns that are left. R8 is 1.
const COUNTER: AsmRegister64 = r14;

/// `[base + disp]` or `[base + r13 * 8 + disp]`
fn place(random: &mut Random) -> AsmMemoryOperand {
    let disp = random.below(16) as i32 * 8 - 64 + if random.below(8) == 0 { 3 } else { 0 };
    match random.below(8) {
        0 | 1 => random.one(&BASES) + r13 * 8 + disp,
        2 => rsp + disp,
        _ => random.one(&BASES) + disp,
    }
}

fn emit(a: &mut CodeAssembler, random: &mut Random) -> Result<(), IcedError> {
    let value = random.one(&VALUES);
    let step = random.below(9) as i32 * 4;
    match random.below(31) {
        0..3 => a.mov(qword_ptr(place(random)), value),
        3..6 => a.mov(value, qword_ptr(place(random))),
        6 => a.add(value, qword_ptr(place(random))),
        7 => a.add(qword_ptr(place(random)), value),
        8 => a.adc(dword_ptr(place(random)), 5),
        9 => a.cmp(byte_ptr(place(random)), 7),
        10 => a.movups(xmm3, xmmword_ptr(place(random))),
        11 => a.movaps(xmmword_ptr(place(random)), xmm3),
        12..17 => a.add(random.one(&BASES), step),
        17 => a.lea(random.one(&BASES), random.one(&BASES) + step),
        18 => a.add(random.one(&BASES), r8),
        19 => a.setb(byte_ptr(place(random))),
        20 => a.push(value),
        21 => a.pop(value),
        22 => a.inc(value),
        23 => a.shl(value, 3),
        24 => a.mov(value, random.one(&VALUES)),
        25 => a.adc(value, random.one(&VALUES)),
        26 => a.inc(r13),
        27 => a.lock().add(dword_ptr(place(random)), 1),
        29 => a.lea(random.one(&BASES), random.one(&BASES) + r13 * 8 - step),
        28 => a.cmovb(value, random.one(&VALUES)),
        _ => a.add(dword_ptr(UPPER - 64 + random.below(8) * 16), 16),
    }
}

/// One turn less, with ZF set behind the last.
fn count(a: &mut CodeAssembler, random: &mut Random) -> Result<(), IcedError> {
    let value = random.one(&VALUES);
    match random.below(9) {
        0 => a.sub(COUNTER, 1),
        1 => a.add(COUNTER, -1),
        2 => a.dec(COUNTER),
        3 => a.sub(COUNTER, r8),
        4 => a.sub(r14d, 1),
        5 => {
            a.lea(COUNTER, COUNTER - 1)?;
            a.test(COUNTER, COUNTER)
        }
        6 => {
            a.lea(COUNTER, COUNTER - 1)?;
            a.mov(value, COUNTER)?;
            a.and(value, 0x7F)
        }
        7 => {
            a.dec(COUNTER)?;
            a.mov(value, r8)?;
            a.cmp(COUNTER, value)
        }
        _ => {
            a.dec(COUNTER)?;
            a.cmp(r14d, 1)
        }
    }
}

fn body(a: &mut CodeAssembler, random: &mut Random) -> Result<(), IcedError> {
    // A block begins in front of the loop, or with it.
    for _ in 0..random.below(2) {
        emit(a, random)?;
    }
    let mut start = a.create_label();
    a.set_label(&mut start)?;
    let mut out = a.create_label();
    for _ in 0..1 + random.below(9) {
        emit(a, random)?;
        match random.below(16) {
            0 => a.js(out)?,
            1 => a.jb(out)?,
            2 => {
                let mut behind = a.create_label();
                a.jp(behind)?;
                emit(a, random)?;
                a.set_label(&mut behind)?;
            }
            _ => {}
        }
    }
    count(a, random)?;
    if random.below(4) == 0 {
        // What leaves the flags as they are, and may change what made them.
        a.mov(random.one(&VALUES), random.one(&VALUES))?;
    }
    a.jne(start)?;
    a.setb(al)?;
    a.set_label(&mut out)?;
    a.setp(bl)?;
    a.hlt()
}

/// A machine that executes in tier 0, or translates at once.
fn machine(kind: Kind, translated: bool) -> Guest {
    let mut guest = Guest::long_mode(|_| {});
    guest.vcpu.set_translated(translated);
    guest.set(Reg::Cr4, 0x620);
    let entry = match kind {
        Kind::Plain => UPPER | 7,
        Kind::Absent => 0,
        Kind::ReadOnly => UPPER | 5,
        Kind::Device => DEVICE | 7,
        Kind::Code => (PROGRAM & !0xFFF) | 7,
    };
    guest.write_u64(PAGE_TABLE + (UPPER >> 12) * 8, entry);
    guest
}

/// Makes the program of a case and what it finds.
fn prepare(guest: &mut Guest, kind: Kind, case: u64) {
    let mut random = Random(case * 2 + 1);
    let program = guest::assemble(64, PROGRAM, |a| body(a, &mut random).expect("it is encodable"));
    let code = PROGRAM & !0xFFF;
    for at in (LOWER..UPPER + 0x1000).chain(code..code + 0x1000).step_by(8) {
        guest.write_u64(at, at.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }
    guest.load(PROGRAM, &program);
    guest.set(Reg::Rip, PROGRAM);
    guest.set(Reg::Rflags, 2 | random.below(2));
    for gpr in Gpr::ALL {
        guest.set_gpr(gpr, random.below(1 << 30));
    }
    for gpr in [Gpr::Rsp, Gpr::Rbp, Gpr::Rdi, Gpr::Rsi, Gpr::R9] {
        guest.set_gpr(gpr, UPPER - 600 + random.below(80) * 8);
    }
    guest.set_gpr(Gpr::R8, 1);
    guest.set_gpr(Gpr::R13, random.below(4));
    // Stores must not reach the program itself, which could go round in circles then.
    let most = if kind == Kind::Code { 4 } else { 30 };
    guest.set_gpr(Gpr::R14, 2 + random.below(most));
}

/// Runs to the end; what happened on the way.
fn run(guest: &mut Guest) -> Vec<String> {
    let mut exits = Vec::new();
    let mut next = None;
    for _ in 0..200 {
        let exit = next.take().unwrap_or_else(|| guest.run());
        exits.push(guest::describe(&exit));
        if !matches!(exit, Exit::Mmio(_)) {
            break;
        }
        next = guest.vcpu.complete(&[0x5A; 64]);
    }
    exits
}

fn state(guest: &Guest) -> (Vec<u64>, Vec<u64>) {
    let registers = Gpr::ALL.into_iter().map(|gpr| guest.gpr(gpr));
    let count = guest.vcpu.counters().instructions();
    let registers = registers
        .chain([guest.rip(), comparable_flags(guest.vcpu.reg(Reg::Rflags)), count])
        .collect();
    let pages = [PROGRAM & !0xFFF, LOWER, UPPER].into_iter();
    let memory = pages.flat_map(|page| (page..page + 0x1000).step_by(8));
    (registers, memory.map(|at| guest.read_u64(at)).collect())
}

#[test]
fn loops_end_as_in_tier_0() {
    for kind in KINDS {
        let [mut interpreted, mut translated] = [false, true].map(|way| machine(kind, way));
        for case in 0..CASES {
            prepare(&mut interpreted, kind, case);
            prepare(&mut translated, kind, case);
            let exits = [run(&mut interpreted), run(&mut translated)];
            assert_eq!(exits[0], exits[1], "case {case}, {kind:?}");
            let [(registers, memory), (found, pages)] = [state(&interpreted), state(&translated)];
            assert_eq!(registers, found, "case {case}, {kind:?}");
            assert!(memory == pages, "case {case}, {kind:?}: memory differs");
        }
    }
}
