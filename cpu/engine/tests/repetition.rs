//! Repeated MOVS and STOS: random ones, inside a page and across pages, up and down, overlapping and of
//! no element at all, do what one element after the other does.

mod guest;
mod xorshift;

use cpu_defs::{Gpr, Reg, SegField, SegReg};
use guest::Guest;
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use xorshift::Random;

/// What is copied and filled: four pages.
const DATA: u64 = 0x8_0000;
const DATA_LEN: usize = 0x4000;
/// RSI, RDI and RCX of each case, before and after.
const CASES_AT: u64 = 0x9_0000;
const CASE_LEN: u64 = 24;
const CASES: usize = 300;
/// Added to what FS addresses.
const FS_BASE: u64 = 0x3000;
const FILLER: u64 = 0x1122_3344_5566_7788;

/// So that elements of `len` bytes up to the ends of pages are not rare.
fn offset(random: &mut Random, len: u64) -> u64 {
    let page = random.below(4) << 12;
    match random.below(4) {
        0 => page + 4096 - len * random.below(9),
        1 => page + 4096 - random.below(64),
        _ => page + random.below(4096),
    }
}

fn count(random: &mut Random, len: u64) -> u64 {
    match random.below(8) {
        0 => 0,
        1 => 1,
        2..6 => random.below(200 / len),
        _ => random.below(6000 / len),
    }
}

/// What is repeated.
#[derive(Clone, Copy, Debug)]
struct Form {
    loads: bool,
    len: u64,
    down: bool,
    fs: bool,
}

/// RSI, RDI and RCX.
type Case = [u64; 3];

/// A case that stays in the data.
fn case(random: &mut Random, form: Form) -> Case {
    loop {
        let [from, to] = [(); 2].map(|()| offset(random, form.len));
        let to = if random.below(4) == 0 { from + random.below(24) } else { to };
        let count = count(random, form.len);
        let bytes = (count * form.len) as i64;
        let inside = |at: u64| {
            let at = at as i64;
            let (first, end) = match form.down {
                true => (at + form.len as i64 - bytes, at + form.len as i64),
                false => (at, at + bytes),
            };
            0 <= first && end <= DATA_LEN as i64
        };
        if inside(from) && inside(to) {
            let base = if form.fs { FS_BASE } else { 0 };
            return [DATA + from - base, DATA + to, count];
        }
    }
}

/// One element after the other.
fn expect(data: &mut [u8], form: Form, [source, target, count]: Case) -> Case {
    let step = if form.down { form.len.wrapping_neg() } else { form.len };
    let base = if form.fs { FS_BASE } else { 0 };
    let (mut from, mut to) = (source, target);
    for _ in 0..count {
        let at = (to - DATA) as usize;
        if form.loads {
            let start = (from + base - DATA) as usize;
            data.copy_within(start..start + form.len as usize, at);
            from = from.wrapping_add(step);
        } else {
            data[at..at + form.len as usize]
                .copy_from_slice(&FILLER.to_le_bytes()[..form.len as usize]);
        }
        to = to.wrapping_add(step);
    }
    [from, to, 0]
}

fn emit(a: &mut CodeAssembler, form: Form) -> Result<(), IcedError> {
    if form.fs {
        a.db(&[0x64])?;
    }
    match (form.loads, form.len) {
        (true, 1) => a.rep().movsb(),
        (true, 2) => a.rep().movsw(),
        (true, 4) => a.rep().movsd(),
        (true, _) => a.rep().movsq(),
        (false, 1) => a.rep().stosb(),
        (false, 2) => a.rep().stosw(),
        (false, 4) => a.rep().stosd(),
        (false, _) => a.rep().stosq(),
    }
}

fn check(form: Form) {
    let mut guest = Guest::long_mode(|a| {
        let mut next = a.create_label();
        a.mov(r14, CASES_AT).unwrap();
        a.mov(r13d, CASES as u32).unwrap();
        a.mov(rax, FILLER).unwrap();
        a.set_label(&mut next).unwrap();
        a.mov(rsi, ptr(r14)).unwrap();
        a.mov(rdi, ptr(r14 + 8)).unwrap();
        a.mov(rcx, ptr(r14 + 16)).unwrap();
        if form.down {
            a.std().unwrap();
        }
        // CF is to be there behind it.
        a.bt(r13d, 0).unwrap();
        emit(a, form).unwrap();
        a.adc(rbx, 0).unwrap();
        a.cld().unwrap();
        a.mov(ptr(r14), rsi).unwrap();
        a.mov(ptr(r14 + 8), rdi).unwrap();
        a.mov(ptr(r14 + 16), rcx).unwrap();
        a.add(r14, CASE_LEN as i32).unwrap();
        a.dec(r13d).unwrap();
        a.jnz(next).unwrap();
        a.hlt().unwrap();
    });
    let mut random = Random(1 + form.len * 8 + u64::from(form.loads) + 2 * u64::from(form.down));
    let mut data: Vec<u8> = (0..DATA_LEN).map(|_| random.below(256) as u8).collect();
    guest.load(DATA, &data);
    guest.set(Reg::Segment(SegReg::Fs, SegField::Base), FS_BASE);
    let cases: Vec<Case> = (0..CASES).map(|_| case(&mut random, form)).collect();
    let mut expected = Vec::new();
    for (number, &case) in cases.iter().enumerate() {
        let at = CASES_AT + number as u64 * CASE_LEN;
        case.iter().zip((at..).step_by(8)).for_each(|(&word, at)| guest.write_u64(at, word));
        expected.push(expect(&mut data, form, case));
    }
    guest.run_to_hlt();
    for (number, expected) in expected.into_iter().enumerate() {
        let at = CASES_AT + number as u64 * CASE_LEN;
        let after = [0, 8, 16].map(|word| guest.read_u64(at + word));
        assert_eq!(after, expected, "{form:?}, case {number}: {:x?}", cases[number]);
    }
    assert!(guest.read::<DATA_LEN>(DATA)[..] == data, "{form:?}: data differ");
    assert_eq!(guest.gpr(Gpr::Rbx), CASES as u64 / 2, "{form:?}: flags were lost");
}

#[test]
fn repeated_moves_do_what_single_ones_do() {
    for len in [1, 2, 4, 8] {
        for down in [false, true] {
            check(Form { loads: true, len, down, fs: false });
        }
        check(Form { loads: true, len, down: false, fs: true });
    }
}

#[test]
fn repeated_stores_do_what_single_ones_do() {
    for len in [1, 2, 4, 8] {
        for down in [false, true] {
            check(Form { loads: false, len, down, fs: false });
        }
    }
}
