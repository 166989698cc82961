//! CR4.PCIDE, process-context identifiers in CR3, INVPCID and INVLPG.

mod guest;
mod rings;

use cpu_defs::{Gpr, Reg, cr4};
use guest::{Guest, PAGE_TABLE, PML4};
use iced_x86::code_asm::*;
use rings::{exception, supervisor};

const GP: u64 = 13;
const KEEP: u64 = 1 << 63;
/// The page whose entry the program changes, and where it leads first and then.
const MOVING: u64 = 0x1F_0000;
const FIRST: u64 = 0x1E_0000;
const SECOND: u64 = 0x1D_0000;
const ENTRY: u64 = PAGE_TABLE + (MOVING >> 12) * 8;
const GLOBAL: u64 = 1 << 8;
const DESCRIPTOR: u64 = 0x3000;

/// A guest that reads MOVING, changes its entry, does `between` and reads it again into RDX.
/// RSI: 1 read from the first page, RDX: 1 if still so, 2 if from the second.
fn reading_twice(flags: u64, between: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = supervisor(cr4::PCIDE | cr4::PGE, |a| {
        a.mov(rsi, qword_ptr(MOVING)).unwrap();
        a.mov(rax, SECOND | 3 | flags).unwrap();
        a.mov(qword_ptr(ENTRY), rax).unwrap();
        between(a);
        a.mov(rdx, qword_ptr(MOVING)).unwrap();
        a.hlt().unwrap();
    });
    guest.write_u64(ENTRY, FIRST | 3 | flags);
    guest.write_u64(FIRST, 1);
    guest.write_u64(SECOND, 2);
    guest
}

fn load_cr3(a: &mut CodeAssembler, value: u64) {
    a.mov(rax, value).unwrap();
    a.mov(cr3, rax).unwrap();
}

fn invpcid(a: &mut CodeAssembler, kind: u64, pcid: u64, gla: u64) {
    for (at, value) in [(DESCRIPTOR, pcid), (DESCRIPTOR + 8, gla)] {
        a.mov(rax, value).unwrap();
        a.mov(qword_ptr(at), rax).unwrap();
    }
    a.mov(rax, kind).unwrap();
    a.mov(rdi, DESCRIPTOR).unwrap();
    a.invpcid(rax, xmmword_ptr(rdi)).unwrap();
}

fn second_read(flags: u64, between: impl FnOnce(&mut CodeAssembler)) -> u64 {
    let mut guest = reading_twice(flags, between);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), None);
    assert_eq!(guest.gpr(Gpr::Rsi), 1);
    guest.gpr(Gpr::Rdx)
}

#[test]
fn cr3_bit_63_keeps_the_translations_of_an_identifier() {
    // A TLB may forget at any time; this one does not.
    assert_eq!(second_read(0, |_| {}), 1);
    assert_eq!(second_read(0, |a| load_cr3(a, PML4 | KEEP)), 1);
    assert_eq!(second_read(0, |a| load_cr3(a, PML4)), 2);
}

#[test]
fn another_identifier_does_not_see_them() {
    assert_eq!(second_read(0, |a| load_cr3(a, PML4 | 7 | KEEP)), 2);
    let back = |a: &mut CodeAssembler| {
        load_cr3(a, PML4 | 7);
        load_cr3(a, PML4 | KEEP);
    };
    assert_eq!(second_read(0, back), 1);
}

#[test]
fn bit_63_is_not_stored() {
    let mut guest = supervisor(cr4::PCIDE, |a| {
        load_cr3(a, PML4 | 0xABC | KEEP);
        a.mov(rdx, cr3).unwrap();
        a.hlt().unwrap();
    });
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rdx), PML4 | 0xABC);
}

#[test]
fn invlpg_forgets_a_page_of_the_present_identifier_and_global_ones() {
    let here = |a: &mut CodeAssembler| a.invlpg(byte_ptr(MOVING)).unwrap();
    let elsewhere = |a: &mut CodeAssembler| {
        load_cr3(a, PML4 | 7);
        a.invlpg(byte_ptr(MOVING)).unwrap();
        load_cr3(a, PML4 | KEEP);
    };
    assert_eq!(second_read(0, here), 2);
    assert_eq!(second_read(0, elsewhere), 1);
    assert_eq!(second_read(GLOBAL, here), 2);
    assert_eq!(second_read(GLOBAL, elsewhere), 2);
}

#[test]
fn invlpg_of_an_address_that_is_not_canonical_does_nothing() {
    let odd = |a: &mut CodeAssembler| {
        a.mov(rax, 1_u64 << 47 | MOVING).unwrap();
        a.invlpg(byte_ptr(rax)).unwrap();
    };
    assert_eq!(second_read(0, odd), 1);
}

#[test]
fn invpcid_forgets_what_its_type_says() {
    for (kind, pcid, page, global_page) in [
        (0, 0, 2, 2), // the address, of this identifier; global pages may go as well
        (0, 5, 1, 1),
        (1, 0, 2, 1),
        (1, 5, 1, 1),
        (2, 0, 2, 2),
        (3, 0, 2, 1),
        (3, 5, 2, 1),
    ] {
        assert_eq!(second_read(0, |a| invpcid(a, kind, pcid, MOVING)), page, "{kind} {pcid}");
        let global = second_read(GLOBAL, |a| invpcid(a, kind, pcid, MOVING));
        assert_eq!(global, global_page, "{kind} {pcid} global");
    }
}

#[test]
fn toggling_pge_forgets_global_pages() {
    let toggle = |a: &mut CodeAssembler| {
        a.mov(rax, cr4).unwrap();
        a.xor(eax, cr4::PGE as i32).unwrap();
        a.mov(cr4, rax).unwrap();
    };
    assert_eq!(second_read(GLOBAL, toggle), 2);
}

#[test]
fn invpcid_refuses_what_is_not_defined() {
    for (pcide, kind, pcid, gla, refused) in [
        (cr4::PCIDE, 4, 0, 0, true),
        (cr4::PCIDE, 1 << 32, 0, 0, true),
        (cr4::PCIDE, 1, 0x1000, 0, true),
        (cr4::PCIDE, 2, 0x1000, 0, true),
        (cr4::PCIDE, 0, 0xFFF, 0, false),
        (cr4::PCIDE, 0, 0, 1 << 56, true),
        (cr4::PCIDE, 1, 0, 1 << 56, false),
        (0, 0, 1, 0, true),
        (0, 1, 1, 0, true),
        (0, 2, 1, 0, false),
        (0, 0, 0, 0, false),
    ] {
        let mut guest = supervisor(pcide, |a| {
            invpcid(a, kind, pcid, gla);
            a.hlt().unwrap();
        });
        guest.run_to_hlt();
        let expected = refused.then_some((GP, 0));
        assert_eq!(exception(&guest), expected, "{pcide:#x} {kind} {pcid:#x} {gla:#x}");
    }
}

/// MOV to a control register, and whether it is refused.
fn refused(bits: u64, cr3_now: u64, program: impl FnOnce(&mut CodeAssembler)) -> bool {
    let mut guest = supervisor(bits, |a| {
        program(a);
        a.hlt().unwrap();
    });
    guest.set(Reg::Cr3, cr3_now);
    guest.run_to_hlt();
    exception(&guest) == Some((GP, 0))
}

#[test]
fn pcide_needs_an_identifier_of_zero() {
    let set = |a: &mut CodeAssembler| {
        a.mov(rax, cr4::PAE | cr4::PCIDE).unwrap();
        a.mov(cr4, rax).unwrap();
    };
    assert!(!refused(0, PML4, set));
    assert!(refused(0, PML4 | 8, set));
    assert!(!refused(cr4::PCIDE, PML4 | 8, set), "it is set already");
}

#[test]
fn bit_63_of_cr3_is_reserved_without_pcide() {
    assert!(refused(0, PML4, |a| load_cr3(a, PML4 | KEEP)));
    assert!(refused(cr4::PCIDE, PML4, |a| load_cr3(a, PML4 | 1 << 62)));
}
