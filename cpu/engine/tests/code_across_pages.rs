//! An instruction that crosses the end of its page, often enough that it is translated.

mod guest;

use cpu_defs::Gpr;
use cpu_engine::Exit;
use guest::{Guest, PAGE_TABLE, assemble};
use iced_x86::code_asm::*;

/// MOV EDX, imm32: its opcode and first byte of data are in one page, the rest is in the next.
const ROUTINE: u64 = 0x3FFE;
const NEXT: u64 = 0x4000;
/// What is mapped at `NEXT` in other tests' second half.
const ELSEWHERE: u64 = 0x8000;
const TURNS: i32 = 40;

/// Calls the routine in a loop, adds what it returns to RAX, and does what `between` says after each
/// call, the number of the turn in ECX: TURNS first, 1 last.
fn calling(between: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = Guest::long_mode(|a| {
        let mut head = a.create_label();
        a.mov(ecx, TURNS).unwrap();
        a.set_label(&mut head).unwrap();
        a.call(ROUTINE).unwrap();
        a.add(rax, rdx).unwrap();
        between(a);
        a.dec(ecx).unwrap();
        a.jnz(head).unwrap();
        a.hlt().unwrap();
    });
    guest.set_gpr(Gpr::Rax, 0);
    guest.load(ROUTINE, &routine(0));
    guest.load(ELSEWHERE, &routine(1000 << 8)[2..]);
    guest
}

fn routine(value: u32) -> Vec<u8> {
    assemble(64, ROUTINE, |a| {
        a.mov(edx, value).unwrap();
        a.ret().unwrap();
    })
}

/// The sum of 1 to TURNS.
const SUM: u64 = TURNS as u64 * (TURNS as u64 + 1) / 2;

#[test]
fn a_store_to_its_first_page_takes_effect() {
    let mut guest = calling(|a| a.mov(byte_ptr(ROUTINE + 1), cl).unwrap());
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), SUM - 1, "the last store comes behind the last call");
}

#[test]
fn a_store_to_its_second_page_takes_effect() {
    let mut guest = calling(|a| a.mov(byte_ptr(NEXT), cl).unwrap());
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), (SUM - 1) << 8);
}

#[test]
fn its_second_page_is_where_the_tables_say() {
    let entry = PAGE_TABLE + (NEXT >> 12) * 8;
    // The other page in every second turn.
    let mut guest = calling(|a| {
        a.xor(word_ptr(entry), (NEXT ^ ELSEWHERE) as i32).unwrap();
        a.invlpg(byte_ptr(NEXT)).unwrap();
    });
    guest.load(ELSEWHERE + 3, &[0xC3]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), TURNS as u64 / 2 * (1000 << 8));
}

#[test]
fn it_faults_where_its_second_page_is_gone() {
    const IDT: u64 = 0x6000;
    const HANDLER: u64 = 0x9000;
    let mut guest = calling(|a| {
        let mut on = a.create_label();
        a.cmp(ecx, 2).unwrap();
        a.jne(on).unwrap();
        a.mov(qword_ptr(PAGE_TABLE + (NEXT >> 12) * 8), 0).unwrap();
        a.invlpg(byte_ptr(NEXT)).unwrap();
        a.set_label(&mut on).unwrap();
    });
    guest.write_u64(0x5008, guest::descriptor(0, 0xF_FFFF, 0x9B, 0xA));
    guest.set(cpu_defs::Reg::Gdtr(cpu_defs::TableField::Base), 0x5000);
    guest.set(cpu_defs::Reg::Gdtr(cpu_defs::TableField::Limit), 0xF);
    guest.set(cpu_defs::Reg::Idtr(cpu_defs::TableField::Base), IDT);
    guest.set(cpu_defs::Reg::Idtr(cpu_defs::TableField::Limit), 0xFFF);
    guest.load(IDT + 14 * 16, &guest::long_gate(8, HANDLER, 0x8E, 0));
    let handler = assemble(64, HANDLER, |a| {
        a.pop(rdi).unwrap();
        a.pop(rsi).unwrap();
        a.mov(rbx, cr2).unwrap();
        a.hlt().unwrap();
    });
    guest.load(HANDLER, &handler);
    guest.run_to_hlt();
    let [code, rip, address] = [Gpr::Rdi, Gpr::Rsi, Gpr::Rbx].map(|gpr| guest.gpr(gpr));
    assert_eq!((rip, address), (ROUTINE, NEXT));
    assert_eq!(code & 1, 0, "not present");
    assert_eq!(guest.gpr(Gpr::Rcx), 1);
}

#[test]
fn others_may_write_its_second_page_between_runs() {
    let mut guest = calling(|a| {
        a.out(0x80, al).unwrap();
    });
    let mut sum = 0;
    for turn in 1..=TURNS as u32 {
        assert!(matches!(guest.run(), Exit::Io { .. }));
        guest.load(ROUTINE, &routine(turn << 8));
        sum += u64::from(turn) << 8;
    }
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), sum - (u64::from(TURNS as u32) << 8));
}
