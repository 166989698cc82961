//! Prints failing cases.

use iced_x86::FastFormatter;

use crate::bench::Failure;
use crate::case::{Case, describe_end};
use crate::compare::{GPR_NAMES, SEGMENT_NAMES, digits};
use crate::generate::{blank, instruction_of};
use crate::layout::DATA;

/// Prints what goes in where it differs from a blank case, and how the outcomes differ.
pub fn print(case: &Case, failure: &Failure, amd: bool, repeat: &str) {
    let code = &case.code[..case.len as usize];
    let instruction = instruction_of(case, amd);
    let mut text = String::new();
    FastFormatter::new().format(&instruction, &mut text);
    let bytes: Vec<String> = code.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("  {}-bit code at {:#x}: {} | {text}", case.bits, case.rip, bytes.join(" "));
    print_inputs(case);
    let [native, engine] =
        [&failure.native, &failure.engine].map(|outcome| describe_end(outcome.vector));
    println!("    ends: host {native}, engine {engine}");
    for difference in failure.differences.iter().take(12) {
        let (native, engine) = (&difference.native, &difference.engine);
        println!("    {}: host {native}, engine {engine}", difference.field);
    }
    println!("    again: {repeat}");
}

fn print_inputs(case: &Case) {
    let plain = blank(case.bits);
    let mut inputs = Vec::new();
    for (number, name) in GPR_NAMES.into_iter().enumerate() {
        if case.gpr[number] != 0 {
            inputs.push(format!("{name}={:#x}", case.gpr[number]));
        }
    }
    inputs.push(format!("rflags={:#x}", case.rflags));
    for (number, name) in SEGMENT_NAMES.into_iter().enumerate() {
        if case.seg[number] != plain.seg[number] {
            inputs.push(format!("{name}={:#x}", case.seg[number]));
        }
    }
    for (name, base) in [("fs base", case.fs_base), ("gs base", case.gs_base)] {
        if base != 0 {
            inputs.push(format!("{name}={base:#x}"));
        }
    }
    println!("    in: {}", inputs.join(" "));
    for poke in case.pokes.iter().filter(|poke| poke.len > 0) {
        println!("    in: memory {:#x}={}", DATA + u64::from(poke.at), digits(&poke.bytes));
    }
    for (number, zmm) in case.fpu.zmm.iter().enumerate().filter(|(_, zmm)| **zmm != [0; 64]) {
        println!("    in: zmm{number}={}", digits(zmm));
    }
    for (number, mask) in case.fpu.opmask.iter().enumerate().filter(|(_, mask)| **mask != 0) {
        println!("    in: k{number}={mask:#x}");
    }
    for at in (0..160).step_by(8) {
        let (now, usual) = (&case.fpu.legacy[at..at + 8], &plain.fpu.legacy[at..at + 8]);
        if now != usual {
            println!("    in: fxsave+{at}={}", digits(now));
        }
    }
}
