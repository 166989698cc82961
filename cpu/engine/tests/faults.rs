//! Double and triple faults, single step, what is not supported.

mod guest;

use cpu_defs::{Gpr, Reg, TableField};
use cpu_engine::Exit;
use guest::{Guest, START, gate};
use iced_x86::code_asm::*;

const IDT: u64 = 0x6000;
const GDT: u64 = 0x5000;
const HANDLER: u64 = 0x9000;

fn with_idt(mut guest: Guest, limit: u64) -> Guest {
    guest.set(Reg::Idtr(TableField::Base), IDT);
    guest.set(Reg::Idtr(TableField::Limit), limit);
    guest.write_u64(GDT + 8, guest::descriptor(0, 0xF_FFFF, 0x9B, 0xC));
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), 0x17);
    guest
}

fn set_handler(guest: &mut Guest, vector: u64, code: &[u8]) {
    let at = HANDLER + vector * 0x20;
    guest.load(at, code);
    guest.write_u64(IDT + vector * 8, gate(8, at as u32, 0x8E, 0));
}

#[test]
fn without_an_idt_an_exception_shuts_down_with_the_state_kept() {
    let mut guest = with_idt(
        Guest::protected_mode(|a| {
            a.inc(ebx).unwrap();
            a.ud2().unwrap();
        }),
        0,
    );
    assert_eq!(guest.run(), Exit::Shutdown);
    assert_eq!((guest.rip(), guest.gpr(Gpr::Rbx)), (START + 1, 1));
    assert_eq!(guest.gpr(Gpr::Rsp), START);
}

#[test]
fn a_fault_in_delivering_a_contributory_exception_is_a_double_fault() {
    let mut guest = with_idt(
        Guest::protected_mode(|a| {
            a.xor(ecx, ecx).unwrap();
            a.div(ecx).unwrap();
        }),
        0x7FF,
    );
    set_handler(&mut guest, 8, &[0x59, 0xF4]);
    guest.set_gpr(Gpr::Rcx, 5);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rcx), 0, "the error code");
    assert_eq!(guest.rip(), HANDLER + 8 * 0x20 + 2);
}

#[test]
fn a_fault_in_delivering_a_benign_exception_is_delivered_itself() {
    let mut guest = with_idt(Guest::protected_mode(|a| a.ud2().unwrap()), 0x7FF);
    set_handler(&mut guest, 13, &[0x59, 0xF4]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rcx), 6 * 8 + 2 + 1);
}

#[test]
fn single_step_traps_after_each_instruction() {
    let mut guest = with_idt(
        Guest::protected_mode(|a| {
            a.push(0x102).unwrap();
            a.popfd().unwrap();
            a.inc(ebx).unwrap();
            a.inc(ebx).unwrap();
            a.push(2).unwrap();
            a.popfd().unwrap();
            a.hlt().unwrap();
        }),
        0x7FF,
    );
    // INC EDX; IRETD
    set_handler(&mut guest, 1, &[0x42, 0xCF]);
    guest.set_gpr(Gpr::Rdx, 0);
    guest.run_to_hlt();
    assert_eq!((guest.gpr(Gpr::Rbx), guest.gpr(Gpr::Rdx)), (2, 4));
    assert_eq!(guest.vcpu.reg(Reg::Dr6), 0xFFFF_4FF0);
}

#[test]
fn injected_exceptions_are_delivered_before_the_next_instruction() {
    let mut guest = with_idt(Guest::protected_mode(|a| a.nop().unwrap()), 0x7FF);
    set_handler(&mut guest, 13, &[0x59, 0xF4]);
    guest.vcpu.inject_exception(13, Some(0x77));
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rcx), 0x77);
}

#[test]
fn nmis_wait_for_iret() {
    let mut guest = with_idt(
        Guest::protected_mode(|a| {
            a.nop().unwrap();
            a.hlt().unwrap();
        }),
        0x7FF,
    );
    set_handler(&mut guest, 2, &[0x43, 0xF4, 0xCF]);
    guest.vcpu.inject_nmi();
    assert_eq!(guest.run(), Exit::Hlt);
    guest.vcpu.inject_nmi();
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.gpr(Gpr::Rbx), 2);
    assert_eq!(guest.gpr(Gpr::Rsp), START - 12, "the first handler had returned");
}

#[test]
fn sse_is_undefined_until_the_system_supports_it() {
    let mut guest = with_idt(Guest::protected_mode(|a| a.addps(xmm0, xmm1).unwrap()), 0x7FF);
    set_handler(&mut guest, 6, &[0xF4]);
    assert_eq!(guest.run(), Exit::Hlt);
}

#[test]
fn lock_on_a_register_destination_is_undefined() {
    let mut guest = with_idt(Guest::protected_mode(|a| a.db(&[0xF0, 0x01, 0xC0]).unwrap()), 0x7FF);
    set_handler(&mut guest, 6, &[0xF4]);
    assert_eq!(guest.run(), Exit::Hlt);
}
