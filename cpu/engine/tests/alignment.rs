//! Alignment check: #AC for user code with CR0.AM and EFLAGS.AC.

mod guest;

use cpu_defs::{Gpr, Reg, SegReg, TableField};
use cpu_engine::Exit;
use guest::{Guest, long_gate};
use iced_x86::code_asm::*;

const GDT: u64 = 0x5000;
const IDT: u64 = 0x6000;
const TSS: u64 = 0x7000;
const HANDLERS: u64 = 0x9000;
const DATA: u64 = 0xB000;
const UNMAPPED: u64 = 0x100_0000;

const AM: u64 = 1 << 18;
const AC: u64 = 1 << 18;

/// 64-bit user code in a machine whose handlers of #GP, #PF and #AC pop the error code and halt.
fn machine(program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = Guest::long_mode(program);
    guest.write_u64(GDT + 8, guest::descriptor(0, 0xF_FFFF, 0x9B, 0xA));
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), 0xF);
    guest.set(Reg::Idtr(TableField::Base), IDT);
    guest.set(Reg::Idtr(TableField::Limit), 0xFFF);
    for vector in [6, 13, 14, 17] {
        let at = HANDLERS + vector * 0x10;
        guest.load(at, &[0x59, 0xF4]);
        guest.load(IDT + vector * 16, &long_gate(8, at, 0x8E, 0));
    }
    guest.write_u64(TSS + 4, 0xD000);
    guest.set(Reg::Segment(SegReg::Tr, cpu_defs::SegField::Base), TSS);
    guest.set_flat(SegReg::Cs, 0x1B, 0xA0FB);
    guest.set_flat(SegReg::Ss, 0x23, 0xC0F3);
    guest.set(Reg::Cr0, 0x8001_0011 | AM);
    guest.set(Reg::Rflags, 2 | AC);
    guest.set_gpr(Gpr::Rbx, DATA);
    guest
}

/// The vector whose handler the guest halts in.
fn vector(guest: &mut Guest) -> u64 {
    assert_eq!(guest.run(), Exit::Hlt);
    (guest.rip() - HANDLERS) / 0x10
}

/// Program, then UD2 to end it.
fn runs(guest_program: fn(&mut CodeAssembler)) -> Guest {
    machine(|a| {
        guest_program(a);
        a.ud2().unwrap();
    })
}

#[test]
fn unaligned_operands_of_user_code_fault() {
    type Program = fn(&mut CodeAssembler);
    let cases: [(Program, u64); 16] = [
        (|a| a.mov(eax, dword_ptr(rbx)).unwrap(), 6),
        (|a| a.mov(eax, dword_ptr(rbx + 2)).unwrap(), 17),
        (|a| a.mov(ax, word_ptr(rbx + 2)).unwrap(), 6),
        (|a| a.mov(ax, word_ptr(rbx + 1)).unwrap(), 17),
        (|a| a.mov(al, byte_ptr(rbx + 1)).unwrap(), 6),
        (|a| a.mov(qword_ptr(rbx + 4), rax).unwrap(), 17),
        (|a| a.lock().add(dword_ptr(rbx + 2), eax).unwrap(), 17),
        (|a| a.add(dword_ptr(rbx + 4), eax).unwrap(), 6),
        (|a| a.bt(dword_ptr(rbx + 2), 1).unwrap(), 17),
        (|a| a.cmpxchg8b(qword_ptr(rbx + 4)).unwrap(), 17),
        (
            |a| {
                a.lea(rsp, qword_ptr(rbx + 0x104)).unwrap();
                a.push(rax).unwrap();
            },
            17,
        ),
        (
            |a| {
                a.lea(rsi, qword_ptr(rbx + 2)).unwrap();
                a.mov(rdi, rbx).unwrap();
                a.mov(ecx, 3).unwrap();
                a.rep().movsd().unwrap();
            },
            17,
        ),
        (
            |a| {
                a.lea(rsi, qword_ptr(rbx + 1)).unwrap();
                a.lea(rdi, qword_ptr(rbx + 0x21)).unwrap();
                a.mov(ecx, 9).unwrap();
                a.rep().movsb().unwrap();
            },
            6,
        ),
        // 16:32, then 16:16.
        (|a| a.db(&[0x0F, 0xB4, 0x43, 0x02]).unwrap(), 17),
        (|a| a.db(&[0x66, 0x0F, 0xB4, 0x43, 0x02]).unwrap(), 6),
        (|a| a.mov(eax, dword_ptr(UNMAPPED as u32 + 1)).unwrap(), 17),
    ];
    for (number, (program, expected)) in cases.into_iter().enumerate() {
        let mut guest = runs(program);
        assert_eq!(vector(&mut guest), expected, "case {number}");
        if expected == 17 {
            assert_eq!(guest.gpr(Gpr::Rcx), 0, "the error code");
        }
    }
}

#[test]
fn without_am_or_ac_or_below_cpl_3_nothing_is_checked() {
    let program: fn(&mut CodeAssembler) = |a| a.mov(eax, dword_ptr(rbx + 1)).unwrap();
    let mut guest = runs(program);
    guest.set(Reg::Cr0, 0x8001_0011);
    assert_eq!(vector(&mut guest), 6);
    let mut guest = runs(program);
    guest.set(Reg::Rflags, 2);
    assert_eq!(vector(&mut guest), 6);
    let mut guest = runs(program);
    guest.set_flat(SegReg::Cs, 0x08, 0xA09B);
    guest.set_flat(SegReg::Ss, 0x10, 0xC093);
    assert_eq!(vector(&mut guest), 6);
}

#[test]
fn setting_ac_turns_the_checks_on_at_once() {
    let mut guest = machine(|a| {
        a.mov(eax, dword_ptr(rbx + 1)).unwrap();
        a.push(AC as i32 | 2).unwrap();
        a.popfq().unwrap();
        a.mov(edx, 1).unwrap();
        a.mov(eax, dword_ptr(rbx + 1)).unwrap();
    });
    guest.set(Reg::Rflags, 2);
    guest.set_gpr(Gpr::Rsp, DATA + 0x800);
    assert_eq!(vector(&mut guest), 17);
    assert_eq!(guest.gpr(Gpr::Rdx), 1);
}

#[test]
fn descriptor_tables_may_be_unaligned() {
    let mut guest = machine(|a| {
        a.xor(eax, eax).unwrap();
        a.mov(eax, 8).unwrap();
        a.lar(ecx, eax).unwrap();
        a.ud2().unwrap();
    });
    for at in 0..16 {
        let [byte] = guest.read::<1>(GDT + 15 - at);
        guest.load(GDT + 16 - at, &[byte]);
    }
    guest.set(Reg::Gdtr(TableField::Base), GDT + 1);
    assert_eq!(vector(&mut guest), 6);
}

#[test]
fn pushes_to_a_kernel_stack_are_not_checked() {
    let mut guest = machine(|a| a.ud2().unwrap());
    guest.write_u64(IDT + 6 * 16 + 8, 0);
    guest.write_u64(TSS + 4, 0xD003);
    assert_eq!(vector(&mut guest), 6);
}

#[test]
fn fxsave_wants_16_bytes_after_its_first_access_wants_4() {
    type Program = fn(&mut CodeAssembler);
    let cases: [(Program, u64); 5] = [
        (|a| a.fxsave(ptr(rbx)).unwrap(), 6),
        (|a| a.fxsave(ptr(rbx + 2)).unwrap(), 17),
        (|a| a.fxsave(ptr(rbx + 8)).unwrap(), 13),
        (|a| a.fxrstor(ptr(rbx + 1)).unwrap(), 17),
        (|a| a.fxrstor(ptr(rbx + 4)).unwrap(), 13),
    ];
    for (number, (program, expected)) in cases.into_iter().enumerate() {
        assert_eq!(vector(&mut runs(program)), expected, "{number}");
    }
}
