//! Raw bytes as guest code, in every mode, with random memory, tables and registers.
//!
//! Laws: nothing panics; every instruction comes to an end; memory outside the guest's stays as it
//! is; exits say legal things; translated code reaches what tier 0 does ([`isolation`]).
//! `RAW_BYTES_RUNS`, `ISOLATION_RUNS` and `RAW_BYTES_SEED` choose how long and what
//! (`make fuzz`); a failing run is named by its number, `RAW_BYTES_FIRST` starts there. The bytes
//! come from `tests/fuzz/corpus`, changed, or are random.

#[path = "../guest/mod.rs"]
mod guest;
mod isolation;
mod machine;
mod processor;
mod random;

use std::panic::{AssertUnwindSafe, catch_unwind};

use cpu_engine::{Exit, Pending, Vcpu};
use machine::Machine;
use processor::MODES;
use random::Random;

const RUNS: u64 = 3_000;
/// Of programs that two tiers run several times.
const ISOLATION_RUNS: u64 = 300;
const SEED: u64 = 1;
/// Instructions of a run.
const STEPS: u32 = 64;
/// Exits of one instruction after which the run is over.
const MAX_PARTS: u32 = 64;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Code to begin with: the files of the corpus, hexadecimal digits, `;` starts a comment.
fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus is in the repository")
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    files.sort();
    files.iter().map(|path| bytes_of(&std::fs::read_to_string(path).expect("text"))).collect()
}

fn bytes_of(text: &str) -> Vec<u8> {
    let code = text.lines().map(|line| line.split(';').next().unwrap_or_default());
    let words = code.flat_map(str::split_whitespace);
    words.map(|word| u8::from_str_radix(word, 16).expect("two hexadecimal digits")).collect()
}

#[test]
fn raw_bytes_in_any_mode_do_no_harm() {
    let corpus = corpus();
    let first = setting("RAW_BYTES_FIRST", 0);
    let seed = setting("RAW_BYTES_SEED", SEED);
    let mut machine = Machine::new(false);
    for number in first..first + setting("RAW_BYTES_RUNS", RUNS) {
        let mut random = Random::of(seed, number);
        let result = catch_unwind(AssertUnwindSafe(|| run(&mut machine, &mut random, &corpus)));
        assert!(result.is_ok(), "RAW_BYTES_SEED={seed} RAW_BYTES_FIRST={number} RAW_BYTES_RUNS=1");
    }
}

#[test]
fn translated_code_reaches_what_tier_0_reaches() {
    let first = setting("RAW_BYTES_FIRST", 0);
    let seed = setting("RAW_BYTES_SEED", SEED);
    let mut machine = Machine::new(true);
    for number in first..first + setting("ISOLATION_RUNS", ISOLATION_RUNS) {
        let random = Random::of(seed, number);
        let result = catch_unwind(AssertUnwindSafe(|| isolation::run(&mut machine, &random)));
        assert!(result.is_ok(), "RAW_BYTES_SEED={seed} RAW_BYTES_FIRST={number} ISOLATION_RUNS=1");
    }
}

fn run(machine: &mut Machine, random: &mut Random, corpus: &[Vec<u8>]) {
    machine.fill(random);
    let mode = random.pick(&MODES);
    let mut vcpu = processor::in_mode(machine, mode, random);
    let code = code(random, corpus);
    processor::load_code(machine, &vcpu, &code);
    processor::disturb(&mut vcpu, random);
    for _ in 0..STEPS {
        if vcpu.check_entry().is_err() || !step(&mut vcpu, random, machine) {
            break;
        }
    }
    machine.check_canaries();
}

/// Code of the corpus with some bytes changed, or random code.
fn code(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut code: Vec<u8> = match random.below(3) {
        0 => (0..random.below(64) + 1).map(|_| random.next() as u8).collect(),
        _ => (0..random.below(3) + 1)
            .flat_map(|_| corpus[random.below(corpus.len() as u64) as usize].clone())
            .collect(),
    };
    for _ in 0..random.below(6) {
        let at = random.below(code.len() as u64) as usize;
        match random.below(4) {
            0 => code[at] = random.next() as u8,
            1 => code[at] ^= 1 << random.below(8),
            2 => code.insert(at, random.pick(&[0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x64, 0x48])),
            _ => drop(code.remove(at)),
        }
        if code.is_empty() {
            code.push(random.next() as u8);
        }
    }
    code
}

/// One instruction and what it asks of the outside. False: the run is over.
fn step(vcpu: &mut Vcpu, random: &mut Random, machine: &Machine) -> bool {
    disturb_events(vcpu, random);
    let mut exit = if random.chance(10) {
        // A kick that is there before: at most one block is executed.
        machine.kick.exit();
        Some(vcpu.run(random.chance(50)))
    } else {
        vcpu.step()
    };
    for _ in 0..MAX_PARTS {
        let Some(now) = exit else { return true };
        machine::check_exit(machine, &now);
        match vcpu.pending() {
            Some(Pending::IoIn { bytes } | Pending::MmioRead { bytes }) => {
                let data: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
                exit = vcpu.complete(&data);
            }
            Some(Pending::IoOut | Pending::MmioWrite | Pending::Msr | Pending::Hypercall) => {
                exit = vcpu.complete(&[]);
            }
            None => return !matches!(now, Exit::Shutdown | Exit::EmulationFailure { .. }),
        }
    }
    // A string instruction over device memory has an exit for each element.
    false
}

/// What other threads and the host do to a processor between instructions.
fn disturb_events(vcpu: &mut Vcpu, random: &mut Random) {
    match random.below(40) {
        0 => vcpu.inject_exception(random.below(32) as u8, random.chance(50).then_some(0)),
        1 => vcpu.inject_nmi(),
        2 => drop(vcpu.queue_interrupt(random.next() as u8)),
        3 => processor::disturb(vcpu, random),
        _ => {}
    }
}
