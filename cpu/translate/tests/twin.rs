//! A group of accesses at the end of a page is left for the block's twin, and what comes between is not
//! lost.

#[path = "../../interp/tests/machine/mod.rs"]
mod machine;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use cpu_defs::Gpr;
use cpu_interp::{Outcome, Request};
use cpu_translate::{CodeLimit, Translator};
use iced_x86::code_asm::*;
use machine::{DATA, Machine, START};

/// Where an interrupt leads.
const HANDLER: u64 = START + 0x800;
/// One push is in the upper page, the other in the lower one.
const STACK: u64 = DATA + 0x1008;

fn machine() -> (Machine, Translator) {
    let mut machine = Machine::new(|a| {
        a.push(rax).unwrap();
        a.push(rbx).unwrap();
        a.add(rcx, 1).unwrap();
    });
    machine.set_gpr(Gpr::Rsp, STACK);
    machine.set_gpr(Gpr::Rax, 0x11);
    machine.set_gpr(Gpr::Rbx, 0x22);
    // mov edx, 5; hlt
    machine.write(HANDLER, &[0xBA, 5, 0, 0, 0, 0xF4]);
    let limit = Arc::new(CodeLimit::from_mib(16).unwrap());
    let translator = Translator::new(machine.interp.executed(), 0, &limit).unwrap();
    (machine, translator)
}

fn run_to_hlt(machine: &mut Machine, translator: &mut Translator) {
    let kick = AtomicU32::new(0);
    loop {
        match translator.run(&mut machine.interp, &kick) {
            Outcome::Boundary => {}
            other => {
                assert!(matches!(other, Outcome::Request(Request::Hlt)), "{other:?}");
                return;
            }
        }
    }
}

fn pushed(machine: &Machine) -> [u64; 3] {
    let words = [STACK - 8, STACK - 16].map(|at| u64::from_le_bytes(machine.read(at)));
    [words[0], words[1], machine.gpr(Gpr::Rcx)]
}

#[test]
fn a_group_that_a_pages_end_divides_is_executed_once() {
    let (mut machine, mut translator) = machine();
    for turn in 1..4 {
        machine.interp.cpu.arch.set_rip(START);
        machine.set_gpr(Gpr::Rsp, STACK);
        run_to_hlt(&mut machine, &mut translator);
        assert_eq!((pushed(&machine), machine.gpr(Gpr::Rsp)), ([0x11, 0x22, turn], STACK - 16));
    }
}

#[test]
fn an_event_between_the_look_and_the_twin_comes_first() {
    let (mut machine, mut translator) = machine();
    // Others always want something, so one piece of code runs at a time.
    let kick = AtomicU32::new(1);
    let outcome = translator.run(&mut machine.interp, &kick);
    assert!(matches!(outcome, Outcome::Boundary), "{outcome:?}");
    assert_eq!(machine.interp.cpu.arch.rip(), START, "the look has failed");
    machine.interp.cpu.arch.set_rip(HANDLER);
    run_to_hlt(&mut machine, &mut translator);
    assert_eq!((machine.gpr(Gpr::Rdx), pushed(&machine)), (5, [0, 0, 0]));
    machine.interp.cpu.arch.set_rip(START);
    run_to_hlt(&mut machine, &mut translator);
    assert_eq!(pushed(&machine), [0x11, 0x22, 1]);
}
