//! Makes a failing case simpler as long as it fails in the same way.

use cpu_host::FpuState;

use crate::bench::Bench;
use crate::case::{CODE_LEN, Case};
use crate::generate::{PLAIN_FLAGS, blank};

/// Passes over all simplifications.
const PASSES: usize = 4;

/// The simplest case found that differs in what `signature` says.
pub fn shrink(bench: &mut Bench, case: &Case, signature: &str) -> Case {
    let mut best = case.clone();
    for _ in 0..PASSES {
        let before = weight(&best);
        for simpler in candidates(&best) {
            if weight(&simpler) < weight(&best) && bench.signature(&simpler) == signature {
                best = simpler;
            }
        }
        shrink_values(bench, &mut best, signature);
        if weight(&best) == before {
            break;
        }
    }
    best
}

/// How much there is to read in a case.
fn weight(case: &Case) -> u64 {
    let plain = blank(case.bits);
    let bits = |value: u64| u64::from(value.count_ones());
    let gprs: u64 = case.gpr.iter().map(|&value| u64::from(value != 0) * 70 + bits(value)).sum();
    let flags = bits(case.rflags ^ plain.rflags) * 20;
    let segments = case.seg.iter().zip(plain.seg).filter(|&(&a, b)| a != b).count() as u64 * 30;
    let pokes: u64 = case.pokes.iter().map(|poke| u64::from(poke.len) * 9).sum();
    let bases = bits(case.fs_base) + bits(case.gs_base);
    let place = u64::from(case.rip != plain.rip) * 30;
    let zmm: u64 = case.fpu.zmm.iter().flatten().map(|&byte| u64::from(byte.count_ones())).sum();
    let zmms = case.fpu.zmm.iter().filter(|zmm| zmm.iter().any(|&byte| byte != 0)).count() as u64;
    let masks: u64 = case.fpu.opmask.iter().map(|&mask| bits(mask)).sum();
    let legacy = case.fpu.legacy.iter().zip(plain.fpu.legacy).filter(|&(&a, b)| a != b).count();
    let fpu = zmm + zmms * 500 + masks + legacy as u64 * 8;
    gprs + flags + segments + pokes + bases + place + fpu + u64::from(case.len) * 50
}

/// Cases with one thing less.
fn candidates(case: &Case) -> Vec<Case> {
    let plain = blank(case.bits);
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Case)| {
        let mut simpler = case.clone();
        change(&mut simpler);
        all.push(simpler);
    };
    with(&|case| case.fpu = plain.fpu.clone());
    with(&|case| case.fpu.zmm = plain.fpu.zmm);
    with(&|case| case.fpu.legacy = plain.fpu.legacy);
    with(&|case| case.fpu.opmask = plain.fpu.opmask);
    with(&|case| case.pokes = plain.pokes);
    with(&|case| case.gpr = [0; 16]);
    with(&|case| case.rflags = plain.rflags);
    with(&|case| case.rflags = PLAIN_FLAGS);
    with(&|case| case.rip = plain.rip);
    with(&|case| (case.fs_base, case.gs_base) = (0, 0));
    (0..16).for_each(|number| with(&|case| case.gpr[number] = 0));
    (0..6).for_each(|number| with(&|case| case.seg[number] = plain.seg[number]));
    (0..32).for_each(|number| with(&|case| case.fpu.zmm[number] = [0; 64]));
    (0..8).for_each(|number| with(&|case| case.fpu.opmask[number] = 0));
    for number in 0..case.pokes.len() {
        with(&|case| case.pokes[number] = plain.pokes[number]);
    }
    for at in (0..FpuState::at_reset().legacy.len().min(160)).step_by(2) {
        with(&|case| case.fpu.legacy[at..at + 2].copy_from_slice(&plain.fpu.legacy[at..at + 2]));
    }
    [0, 2, 4, 6, 7, 10, 11, 18].into_iter().for_each(|bit| {
        with(&|case| case.rflags &= !(1 << bit) | plain.rflags & 1 << bit);
    });
    for at in 0..(case.len as usize).min(CODE_LEN) {
        with(&|case| {
            case.code.copy_within(at + 1.., at);
            case.len -= u32::from(case.len > 1);
        });
    }
    all
}

/// Clears bits of registers and lanes.
fn shrink_values(bench: &mut Bench, best: &mut Case, signature: &str) {
    let mut attempt = |best: &mut Case, change: &dyn Fn(&mut Case)| {
        let mut simpler = best.clone();
        change(&mut simpler);
        if weight(&simpler) < weight(best) && bench.signature(&simpler) == signature {
            *best = simpler;
        }
    };
    for number in 0..16 {
        for width in [32, 16, 8, 4, 1] {
            for shift in (0..64).step_by(width) {
                let mask = (u64::MAX >> (64 - width)) << shift;
                if best.gpr[number] & mask != 0 {
                    attempt(best, &|case| case.gpr[number] &= !mask);
                }
            }
        }
    }
    for number in 0..32 {
        for lane in 0..8 {
            attempt(best, &|case| case.fpu.zmm[number][lane * 8..lane * 8 + 8].fill(0));
        }
    }
    for number in 0..best.pokes.len() {
        for at in (0..64).step_by(8) {
            attempt(best, &|case| case.pokes[number].bytes[at..at + 8].fill(0));
        }
        if best.pokes[number].len > 0 && best.pokes[number].bytes == [0; 64] {
            attempt(best, &|case| case.pokes[number].len = 0);
        }
    }
}
