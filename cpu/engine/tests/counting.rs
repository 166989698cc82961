//! What a vCPU counts, and that a pause is none of it.

mod guest;

use cpu_defs::Gpr;
use cpu_engine::{Count, Exit};
use guest::Guest;
use iced_x86::code_asm::*;

#[test]
fn every_instruction_that_ends_is_counted() {
    let mut guest = Guest::long_mode(|a| {
        let mut head = a.create_label();
        a.set_label(&mut head).unwrap();
        a.add(rax, 1).unwrap();
        a.dec(rcx).unwrap();
        a.jnz(head).unwrap();
        a.hlt().unwrap();
    });
    guest.set_gpr(Gpr::Rcx, 1_000);
    guest.run_to_hlt();
    assert_eq!(guest.vcpu.counters().instructions(), 3 * 1_000 + 1);
}

#[test]
fn an_instruction_that_faults_is_not_counted() {
    let mut guest = Guest::long_mode(|a| {
        a.nop().unwrap();
        a.ud2().unwrap();
    });
    assert_eq!(guest.run(), Exit::Shutdown);
    assert_eq!(guest.vcpu.counters().instructions(), 1);
}

#[test]
fn an_instruction_that_waits_for_an_answer_is_counted_when_it_has_it() {
    let mut guest = Guest::long_mode(|a| {
        a.in_(al, 0x10).unwrap();
        a.out(0x10, al).unwrap();
        a.hlt().unwrap();
    });
    assert!(matches!(guest.run(), Exit::Io(_)));
    assert_eq!(guest.vcpu.counters().instructions(), 0);
    guest.vcpu.complete(&[1]);
    assert_eq!(guest.vcpu.counters().instructions(), 1);
    assert!(matches!(guest.run(), Exit::Io(_)));
    guest.vcpu.complete(&[]);
    assert_eq!(guest.vcpu.counters().instructions(), 2);
}

#[test]
fn a_pause_is_no_exit_and_the_guest_goes_on() {
    let mut guest = Guest::long_mode(|a| {
        a.nop().unwrap();
        a.hlt().unwrap();
    });
    guest.kick.pause();
    assert_eq!(guest.run(), Exit::Paused);
    assert_eq!(guest.vcpu.counters().get(Count::Exits), 0);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.vcpu.counters().get(Count::Exits), 1);
}

#[test]
fn an_exit_that_was_asked_for_comes_before_a_pause() {
    let mut guest = Guest::long_mode(|a| a.hlt().unwrap());
    guest.kick.pause();
    guest.kick.exit();
    assert_eq!(guest.run(), Exit::Interrupted);
    assert_eq!(guest.run(), Exit::Paused);
    assert_eq!(guest.run(), Exit::Hlt);
}
