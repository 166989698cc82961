//! Pushes, pops, calls and returns while the page that the stack is in changes: which it is, where it
//! leads, and what may be done there.

mod guest;
mod rings;

use cpu_defs::{Gpr, Reg, cr4};
use guest::{Guest, PAGE_TABLE, PML4, START, each_tier, long_gate};
use iced_x86::code_asm::*;
use rings::{HANDLERS, IDT, TSS, exception, supervisor};

/// The page of the stack, the one above it, and another that it leads to later.
const STACK: u64 = 0x1C_0000;
const ABOVE: u64 = STACK + 0x1000;
const OTHER: u64 = 0x1E_0000;
const ENTRY: u64 = PAGE_TABLE + (STACK >> 12) * 8;
const KEEP: u64 = 1 << 63;
const STACK_FAULT: u64 = 12;
const PAGE_FAULT: u64 = 14;

/// Exceptions have this stack, which is IST1.
const HANDLER_STACK: u64 = 0xD000;

/// Has an exception halt on a stack of its own.
fn halt_at(guest: &mut Guest, vector: u64) {
    let handler = HANDLERS + vector * 16;
    guest.write_u64(TSS + 0x24, HANDLER_STACK);
    guest.load(handler, &[0xF4]);
    guest.load(IDT + vector * 16, &long_gate(8, handler, 0x8E, 1));
}

/// A jump to what follows, which is a block of its own.
fn cut(a: &mut CodeAssembler) {
    let mut next = a.create_label();
    a.jmp(next).unwrap();
    a.set_label(&mut next).unwrap();
}

/// A guest that pops RSI from the stack, has it lead elsewhere, does `between`, and pops RDX.
fn popping_twice(between: impl Fn(&mut CodeAssembler)) -> Guest {
    let mut guest = supervisor(cr4::PCIDE, |a| {
        a.mov(rsp, STACK + 0x800).unwrap();
        cut(a);
        a.pop(rsi).unwrap();
        cut(a);
        a.mov(rax, OTHER | 3).unwrap();
        a.mov(qword_ptr(ENTRY), rax).unwrap();
        between(a);
        cut(a);
        a.pop(rdx).unwrap();
        a.hlt().unwrap();
    });
    for at in [0x800, 0x808] {
        guest.write_u64(STACK + at, 1);
        guest.write_u64(OTHER + at, 2);
    }
    guest
}

fn second_pop(between: impl Fn(&mut CodeAssembler)) -> u64 {
    let mut popped = Vec::new();
    each_tier(
        || popping_twice(&between),
        |guest| {
            guest.run_to_hlt();
            assert_eq!(guest.gpr(Gpr::Rsi), 1);
            popped.push(guest.gpr(Gpr::Rdx));
        },
    );
    assert_eq!(popped, [popped[0]; 3]);
    popped[0]
}

fn load_cr3(a: &mut CodeAssembler, value: u64) {
    a.mov(rax, value).unwrap();
    a.mov(cr3, rax).unwrap();
}

#[test]
fn a_stack_that_leads_elsewhere_is_found_there_when_it_was_flushed() {
    // A TLB may forget at any time; this one does not.
    assert_eq!(second_pop(|_| {}), 1);
    assert_eq!(second_pop(|a| a.invlpg(byte_ptr(STACK + 0xFFF)).unwrap()), 2);
    assert_eq!(second_pop(|a| a.invlpg(byte_ptr(ABOVE)).unwrap()), 1);
    assert_eq!(second_pop(|a| load_cr3(a, PML4)), 2);
}

#[test]
fn each_identifier_has_a_stack_of_its_own() {
    assert_eq!(second_pop(|a| load_cr3(a, PML4 | 7 | KEEP)), 2);
    let back = |a: &mut CodeAssembler| {
        load_cr3(a, PML4 | 7);
        a.pop(rdx).unwrap();
        a.lea(rsp, rsp - 8).unwrap();
        load_cr3(a, PML4 | KEEP);
    };
    assert_eq!(second_pop(back), 1);
}

#[test]
fn a_page_that_took_the_place_of_the_stack_is_not_it() {
    // Pages so far apart share a place in the TLB.
    let far: u64 = STACK + (16384 << 12);
    let mut values = Vec::new();
    let make = || {
        let mut guest = popping_twice(|a| a.mov(rdi, qword_ptr(far)).unwrap());
        // 64 MiB further is another table, in which the page leads to memory of the guest.
        let table = PAGE_TABLE + 0x1000;
        guest.write_u64(PML4 + 0x2000 + (far >> 21) * 8, table | 3);
        guest.write_u64(table + (far >> 12 & 511) * 8, 0x1D_0000 | 3);
        guest
    };
    each_tier(make, |guest| {
        guest.run_to_hlt();
        values.push((guest.gpr(Gpr::Rsi), guest.gpr(Gpr::Rdx)));
    });
    assert_eq!(values, [(1, 2); 3]);
}

#[test]
fn a_stack_that_goes_to_and_fro_between_pages_keeps_what_is_on_it() {
    let make = || {
        supervisor(0, |a| {
            a.mov(rsp, ABOVE + 16).unwrap();
            a.mov(ecx, 40).unwrap();
            let (mut again, mut callee) = (a.create_label(), a.create_label());
            a.set_label(&mut again).unwrap();
            a.push(rcx).unwrap();
            a.call(callee).unwrap();
            a.pop(rax).unwrap();
            a.add(rdx, rax).unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
            a.hlt().unwrap();
            a.set_label(&mut callee).unwrap();
            a.push(rdx).unwrap();
            a.push(rbp).unwrap();
            cut(a);
            a.add(qword_ptr(rsp + 8), 3).unwrap();
            a.pop(rbp).unwrap();
            a.pop(rdx).unwrap();
            a.ret().unwrap();
        })
    };
    each_tier(make, |guest| {
        guest.set_gpr(Gpr::Rdx, 0);
        guest.run_to_hlt();
        assert_eq!(guest.gpr(Gpr::Rdx), 40 * 41 / 2 + 40 * 3);
        assert_eq!(guest.gpr(Gpr::Rsp), ABOVE + 16);
    });
}

#[test]
fn a_push_over_code_is_noticed_though_the_stack_was_there_before() {
    // mov al, 1; ret and mov al, 2; ret
    let (first, second) = (0x00C3_01B0_u64, 0x00C3_02B0_u64);
    let make = || {
        let mut guest = supervisor(0, |a| {
            a.mov(rsp, STACK + 0x800).unwrap();
            a.push(rbx).unwrap();
            cut(a);
            a.mov(rbx, STACK + 0x700).unwrap();
            a.call(rbx).unwrap();
            a.mov(rsi, rax).unwrap();
            a.mov(rcx, second).unwrap();
            a.mov(rsp, STACK + 0x708).unwrap();
            cut(a);
            a.push(rcx).unwrap();
            a.mov(rsp, STACK + 0x800).unwrap();
            a.call(rbx).unwrap();
            a.hlt().unwrap();
        });
        guest.write_u64(STACK + 0x700, first);
        guest.set_gpr(Gpr::Rax, 0);
        guest
    };
    each_tier(make, |guest| {
        guest.run_to_hlt();
        assert_eq!((guest.gpr(Gpr::Rsi), guest.gpr(Gpr::Rax)), (1, 2));
    });
}

/// Where a push raised an exception that halted, with RSP what it was before.
fn push_raises(rsp_before: u64, entry: u64) -> Option<(u64, u64)> {
    let mut raised = Vec::new();
    let make = || {
        let mut guest = supervisor(0, |a| {
            a.mov(rsp, ABOVE + 0x800).unwrap();
            a.pop(rax).unwrap();
            cut(a);
            a.mov(rsp, rsp_before).unwrap();
            cut(a);
            a.push(rax).unwrap();
            a.hlt().unwrap();
        });
        halt_at(&mut guest, STACK_FAULT);
        halt_at(&mut guest, PAGE_FAULT);
        guest.write_u64(ENTRY, entry);
        guest.set(Reg::Rip, START);
        guest
    };
    each_tier(make, |guest| {
        guest.run_to_hlt();
        raised.push(exception(guest));
    });
    assert_eq!(raised, [raised[0]; 3]);
    raised[0]
}

#[test]
fn what_is_wrong_with_a_stack_is_raised() {
    assert_eq!(push_raises(STACK + 0x800, STACK | 3), None);
    assert_eq!(push_raises(STACK + 0x800, STACK), Some((PAGE_FAULT, 2)));
    for not_canonical in [1 << 47, 1 << 63, (1 << 63) + 8, 0xFFFF << 47] {
        assert_eq!(push_raises(not_canonical + 8, STACK | 3), Some((STACK_FAULT, 0)));
    }
    // The first page of all, which no word stands for that is zero.
    assert_eq!(push_raises(0x800, STACK | 3), None);
}

#[test]
fn a_stack_that_may_only_be_read_is_not_written() {
    let make = || {
        let mut guest = supervisor(0, |a| {
            a.mov(rax, cr0).unwrap();
            a.or(eax, 1 << 16).unwrap();
            a.mov(cr0, rax).unwrap();
            a.mov(rsp, STACK + 0x800).unwrap();
            cut(a);
            a.pop(rsi).unwrap();
            cut(a);
            a.pop(rdi).unwrap();
            cut(a);
            a.push(rbx).unwrap();
            a.hlt().unwrap();
        });
        halt_at(&mut guest, PAGE_FAULT);
        guest.write_u64(STACK + 0x800, 7);
        guest.write_u64(STACK + 0x808, 8);
        guest.write_u64(ENTRY, STACK | 1);
        guest
    };
    each_tier(make, |guest| {
        guest.run_to_hlt();
        assert_eq!(exception(guest), Some((PAGE_FAULT, 3)));
        assert_eq!((guest.gpr(Gpr::Rsi), guest.gpr(Gpr::Rdi)), (7, 8));
        assert_eq!(guest.read_u64(STACK + 0x808), 8);
    });
}
