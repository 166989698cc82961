//! Locked instructions of two processors on the same memory.

mod guest;

use std::sync::Arc;

use cpu_defs::Gpr;
use cpu_engine::{Exit, Kick, TscClock, Vcpu, supported_cpuid};
use guest::{Guest, START};
use iced_x86::code_asm::*;

const TURNS: u64 = 50_000;

/// A second processor in the state of the first.
fn twin(guest: &Guest) -> Vcpu {
    let clock = TscClock::new(1_000_000);
    let mut twin = Vcpu::new(guest.map.clone(), Arc::new(Kick::new()), supported_cpuid(), clock);
    for reg in guest::state_registers() {
        twin.set_reg(reg, guest.vcpu.reg(reg)).expect("a value that the register had");
    }
    twin
}

fn both_count(address: u64) -> u64 {
    let mut guest = Guest::protected_mode(|a| {
        let mut head = a.create_label();
        a.set_label(&mut head).unwrap();
        a.lock().add(dword_ptr(address), 1).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(head).unwrap();
        a.hlt().unwrap();
    });
    guest.set_gpr(Gpr::Rcx, TURNS);
    let mut other = twin(&guest);
    std::thread::scope(|scope| {
        let exit = scope.spawn(move || other.run(false));
        assert_eq!(guest.run(), Exit::Hlt);
        assert_eq!(exit.join().expect("no panic"), Exit::Hlt);
    });
    u64::from(u32::from_le_bytes(guest.read(address)))
}

#[test]
fn locked_increments_are_not_lost() {
    assert_eq!(both_count(0x8000), 2 * TURNS);
}

#[test]
fn locked_increments_across_a_cache_line_are_not_lost() {
    assert_eq!(both_count(0x803E), 2 * TURNS);
}

#[test]
fn locked_increments_across_a_page_are_not_lost() {
    assert_eq!(both_count(0x8FFE), 2 * TURNS);
}

#[test]
fn one_step_executes_one_instruction() {
    let mut guest = Guest::protected_mode(|a| {
        a.inc(ebx).unwrap();
        a.inc(ebx).unwrap();
    });
    assert_eq!(guest.vcpu.step(), None);
    assert_eq!((guest.gpr(Gpr::Rbx), guest.rip()), (1, START + 1));
}
