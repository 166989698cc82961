//! Random code runs through the translator and through tier 0 alone to the same state: registers,
//! status flags, memory, and the place of the fault that ends it; and so through both in lockstep.
//!
//! `LOCKSTEP_PROGRAMS=n` tries more programs, `LOCKSTEP_SEED=n` others.

#[path = "../guest/mod.rs"]
mod guest;
mod integers;
mod random;
mod vectors;

use cpu_defs::{Gpr, Reg};
use cpu_engine::{Exit, Vcpu};
use guest::{Guest, START, undefined_flags_are_alike};
use iced_x86::{Decoder, DecoderOptions, FlowControl};
use random::Random;

/// Where pointers lead: the end of a page, with pages around it.
const DATA: u64 = 0x4_0FF0;
/// Bytes around [`DATA`] that are compared.
const WINDOW: u64 = 0x800;

/// A machine with this code, and registers and memory as `random` has them.
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
    let fpu = guest.vcpu.fpu();
    let mut words = |name: &str, bytes: &[u8]| {
        for (number, word) in bytes.chunks_exact(8).enumerate() {
            let value = word.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
            state.push((format!("{name} {number}"), value));
        }
    };
    words("fxsave", &fpu.fxsave());
    fpu.zmm.iter().enumerate().for_each(|(number, zmm)| words(&format!("zmm{number}"), zmm));
    state.extend((0..).zip(fpu.opmask).map(|(number, mask)| (format!("k{number}"), mask)));
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

/// Runs programs in machines of both tiers.
fn compare(
    program: impl Fn(&mut Random) -> Vec<u8>,
    machine: impl Fn(&[u8], &mut Random) -> Guest,
) {
    let seed = number("LOCKSTEP_SEED", 1);
    for case in 0..number("LOCKSTEP_PROGRAMS", 100) {
        let mut random = Random::new(seed, case);
        let code = program(&mut random);
        let run = |choose: fn(&mut Vcpu)| {
            let mut guest = machine(&code, &mut random.clone());
            choose(&mut guest.vcpu);
            let exit = guest.vcpu.run(false);
            state(&guest, &exit)
        };
        let translated = run(|vcpu| vcpu.set_translated(true));
        let interpreted = run(|vcpu| vcpu.set_translated(false));
        let both = run(Vcpu::set_lockstep);
        if !undefined_flags_are_alike() {
            // Lockstep has compared what can be, block by block.
            continue;
        }
        assert!(both == interpreted, "seed {seed}, program {case}: in lockstep");
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
