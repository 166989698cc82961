//! Neighbouring accesses, which translated code looks up together, at the ends of pages that are there,
//! are not, may only be read, belong to a device, or hold the code itself: random programs end in
//! translated code as they do in tier 0, at a fault too.

mod guest;
mod xorshift;

use cpu_defs::{Gpr, Reg};
use cpu_engine::Exit;
use guest::{Guest, PAGE_TABLE, START, comparable_flags};
use iced_x86::code_asm::*;
use xorshift::Random;

/// A page whose end is like any other, and the one behind it, which is of some [`Kind`].
const LOWER: u64 = 0x8000;
const UPPER: u64 = 0x9000;
/// Nothing is there.
const DEVICE: u64 = 0x40_0000;
const CASES: u64 = 3_000;

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

const BASES: [AsmRegister64; 6] = [rsp, rbp, rdi, rsi, r9, r15];
const VALUES: [AsmRegister64; 8] = [rax, rbx, rcx, rdx, r8, r10, r11, r12];

/// `[base + disp]` or `[base + r13 * 8 + disp]`
fn place(random: &mut Random) -> AsmMemoryOperand {
    let disp = random.below(24) as i32 * 8 - 64 + if random.below(8) == 0 { 3 } else { 0 };
    let base = random.one(&BASES);
    if random.below(4) == 0 { base + r13 * 8 + disp } else { base + disp }
}

/// An address near the end of the lower page, mostly a multiple of 16.
fn fixed(random: &mut Random) -> u64 {
    UPPER - 64 + random.below(8) * 16 + if random.below(8) == 0 { 4 } else { 0 }
}

/// A call of what follows.
fn call(a: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    let mut next = a.create_label();
    a.call(next)?;
    a.set_label(&mut next)
}

/// A return to what follows, with flags that were made before.
fn return_ahead(a: &mut CodeAssembler, value: AsmRegister64) -> Result<(), iced_x86::IcedError> {
    let mut next = a.create_label();
    a.lea(rbx, qword_ptr(next))?;
    a.push(rbx)?;
    a.cmp(value, rcx)?;
    a.ret()?;
    a.set_label(&mut next)?;
    a.adc(rdx, rdx)
}

fn emit(
    a: &mut CodeAssembler,
    random: &mut Random,
    choices: u64,
) -> Result<(), iced_x86::IcedError> {
    let value = random.one(&VALUES);
    let small = random.below(8) as i32 * 8 - 24;
    match random.below(choices) {
        0..3 => a.push(value),
        3..6 => a.pop(value),
        6..8 => a.mov(qword_ptr(place(random)), value),
        8..10 => a.mov(value, qword_ptr(place(random))),
        10 => a.add(value, qword_ptr(place(random))),
        11 => a.adc(dword_ptr(place(random)), 5),
        12 => a.cmp(byte_ptr(place(random)), 7),
        13 => a.movups(xmm3, xmmword_ptr(place(random))),
        14 => a.movaps(xmmword_ptr(place(random)), xmm3),
        15 => a.add(random.one(&BASES), small),
        16 => a.lea(random.one(&BASES), random.one(&BASES) + small),
        17 => a.mov(rbp, rsp),
        18 => a.leave(),
        19 => a.setb(byte_ptr(place(random))),
        20 => a.shld(qword_ptr(place(random)), value, 9),
        21 => a.push(small),
        22 => a.xadd(value, random.one(&VALUES)),
        23 => a.mov(value, qword_ptr(fixed(random))),
        24 => a.add(dword_ptr(fixed(random)), 16),
        25 => a.xchg(qword_ptr(fixed(random)), value),
        26 => a.movaps(xmm3, xmmword_ptr(fixed(random))),
        27 => call(a),
        28..31 => return_ahead(a, value),
        _ => a.mov(ah, byte_ptr(rdi + small)),
    }
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
        Kind::Code => START | 7,
    };
    guest.write_u64(PAGE_TABLE + (UPPER >> 12) * 8, entry);
    guest
}

/// Makes the program of a case and what it finds.
fn prepare(guest: &mut Guest, kind: Kind, case: u64) {
    // A return to code that was overwritten may go round in circles.
    let choices = if kind == Kind::Code { 27 } else { 32 };
    let mut random = Random(case * 2 + 1);
    let program = guest::assemble(64, START, |a| {
        for _ in 0..6 + random.below(30) {
            emit(a, &mut random, choices).unwrap();
        }
        a.hlt().unwrap();
    });
    for at in (LOWER..UPPER + 0x1000).chain(START..START + 0x1000).step_by(8) {
        guest.write_u64(at, at.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }
    guest.load(START, &program);
    guest.set(Reg::Rip, START);
    guest.set(Reg::Rflags, 2 | random.below(2));
    for gpr in Gpr::ALL {
        guest.set_gpr(gpr, random.below(1 << 30));
    }
    for (number, gpr) in
        [Gpr::Rsp, Gpr::Rbp, Gpr::Rdi, Gpr::Rsi, Gpr::R9, Gpr::R15].into_iter().enumerate()
    {
        let far = number as u64 * 8 + random.below(40) * 8;
        guest.set_gpr(gpr, UPPER - 200 + far);
    }
    guest.set_gpr(Gpr::R13, random.below(4));
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
    let registers =
        registers.chain([guest.rip(), comparable_flags(guest.vcpu.reg(Reg::Rflags))]).collect();
    let pages = [START, LOWER, UPPER].into_iter();
    let memory = pages.flat_map(|page| (page..page + 0x1000).step_by(8));
    (registers, memory.map(|at| guest.read_u64(at)).collect())
}

#[test]
fn what_shares_a_look_ends_as_in_tier_0() {
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
