//! CR4.PKE, RDPKRU, WRPKRU: rights of user pages by their key.

mod guest;
mod rings;

use cpu_defs::{Gpr, Reg, cr4};
use guest::{Guest, PAGE_TABLE};
use iced_x86::code_asm::*;
use rings::{USER_PAGE, exception, supervisor, user};

const UD: u64 = 6;
const GP: u64 = 13;
const PF: u64 = 14;
/// The key of the user page.
const KEY: u64 = 5;
const ACCESS_DISABLE: u32 = 1 << (2 * KEY);
const WRITE_DISABLE: u32 = 2 << (2 * KEY);
const WP: u64 = 1 << 16;

fn with_key(guest: Guest) -> Guest {
    let mut guest = guest;
    guest.write_u64(PAGE_TABLE + (USER_PAGE >> 12) * 8, USER_PAGE | 7 | KEY << 59);
    guest.set_gpr(Gpr::Rsp, USER_PAGE + 0x800);
    guest
}

/// WRPKRU of a value, with RBX kept.
fn wrpkru(a: &mut CodeAssembler, value: u32) {
    a.mov(eax, value).unwrap();
    a.xor(ecx, ecx).unwrap();
    a.xor(edx, edx).unwrap();
    a.wrpkru().unwrap();
}

#[test]
fn user_code_loses_a_page_that_was_just_read() {
    let mut guest = with_key(user(cr4::PKE, |a| {
        a.mov(rax, qword_ptr(rbx + 0x100)).unwrap();
        wrpkru(a, ACCESS_DISABLE);
        a.mov(rsi, qword_ptr(rbx + 0x100)).unwrap();
    }));
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((PF, 0x25)));
    assert_eq!(guest.vcpu.reg(Reg::Cr2), USER_PAGE + 0x100);
}

#[test]
fn user_code_gets_the_page_back() {
    let mut guest = with_key(user(cr4::PKE, |a| {
        wrpkru(a, ACCESS_DISABLE);
        wrpkru(a, 0);
        a.mov(dword_ptr(rbx + 0x100), 7).unwrap();
        wrpkru(a, WRITE_DISABLE);
        a.mov(rsi, qword_ptr(rbx + 0x100)).unwrap();
        a.mov(dword_ptr(rbx + 0x100), 8).unwrap();
    }));
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((PF, 0x27)));
    assert_eq!(guest.gpr(Gpr::Rsi), 7);
}

#[test]
fn supervisor_code_is_bound_by_the_keys_of_user_pages() {
    let mut guest = with_key(supervisor(cr4::PKE, |a| {
        wrpkru(a, ACCESS_DISABLE);
        a.mov(rsi, qword_ptr(rbx)).unwrap();
    }));
    guest.set_gpr(Gpr::Rsp, 0x4000);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((PF, 0x21)));
}

#[test]
fn without_wp_supervisor_code_writes_where_the_key_denies_it() {
    for (wp, expected) in [(WP, Some((PF, 0x23))), (0, None)] {
        let mut guest = with_key(supervisor(cr4::PKE, |a| {
            wrpkru(a, WRITE_DISABLE);
            a.mov(dword_ptr(rbx), 7).unwrap();
            a.hlt().unwrap();
        }));
        guest.set_gpr(Gpr::Rsp, 0x4000);
        guest.set(Reg::Cr0, 0x8000_0011 | wp);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), expected);
    }
}

#[test]
fn keys_do_not_bind_supervisor_pages_and_fetches() {
    let mut guest = with_key(user(cr4::PKE, |a| {
        wrpkru(a, 0x5555_5555);
        a.nop().unwrap();
        a.int3().unwrap();
    }));
    guest.run_to_hlt();
    // Fetches go on; the breakpoint's gate is absent, which costs no access to the user page.
    assert_eq!(exception(&guest).map(|found| found.0), Some(GP));
}

#[test]
fn the_registers_of_rdpkru_and_wrpkru_must_be_zero() {
    for (opcode, c, d, expected) in [
        (0xEE, 1, 0, Some((GP, 0))),
        (0xEF, 1, 0, Some((GP, 0))),
        (0xEF, 0, 1, Some((GP, 0))),
        (0xEE, 0, 1, None),
    ] {
        let mut guest = supervisor(cr4::PKE, |a| a.db(&[0x0F, 0x01, opcode, 0xF4]).unwrap());
        guest.set_gpr(Gpr::Rcx, c);
        guest.set_gpr(Gpr::Rdx, d);
        guest.set_gpr(Gpr::Rax, 0x1234);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), expected, "{opcode:x} {c} {d}");
        if expected.is_none() {
            assert_eq!((guest.gpr(Gpr::Rax), guest.gpr(Gpr::Rdx)), (0, 0));
        }
    }
}

#[test]
fn without_pke_there_is_no_pkru_and_no_ospke() {
    for opcode in [0xEE, 0xEF] {
        let mut guest = supervisor(0, |a| a.db(&[0x0F, 0x01, opcode]).unwrap());
        guest.run_to_hlt();
        assert_eq!(exception(&guest).map(|found| found.0), Some(UD));
    }
    for (bits, ospke) in [(0, 0), (cr4::PKE, 1)] {
        let mut guest = supervisor(bits, |a| {
            a.mov(eax, 7).unwrap();
            a.xor(ecx, ecx).unwrap();
            a.cpuid().unwrap();
            a.hlt().unwrap();
        });
        guest.run_to_hlt();
        assert_eq!(guest.gpr(Gpr::Rcx) >> 3 & 3, 1 | ospke << 1);
    }
}
