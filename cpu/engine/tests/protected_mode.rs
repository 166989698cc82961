//! Protected mode: segment loads, call gates, interrupts across rings, mode switches.

mod guest;

use cpu_defs::{Gpr, Reg, SegField, SegReg, TableField};
use cpu_engine::Exit;
use guest::{Guest, START, assemble, descriptor, gate};
use iced_x86::code_asm::*;

const GDT: u64 = 0x5000;
const IDT: u64 = 0x6000;
const TSS: u64 = 0x7000;
const HANDLER: u64 = 0x9000;
const USER: u64 = 0xA000;
const KERNEL_STACK: u64 = 0xC000;
const USER_STACK: u64 = 0xE000;

const KERNEL_CODE: u64 = 0x08;
const KERNEL_DATA: u64 = 0x10;
const USER_CODE: u64 = 0x1B;
const USER_DATA: u64 = 0x23;
const CALL_GATE: u64 = 0x2B;
const NOT_PRESENT: u64 = 0x30;
const TSS_SELECTOR: u64 = 0x38;

fn with_tables(mut guest: Guest) -> Guest {
    let gdt = [
        0,
        descriptor(0, 0xF_FFFF, 0x9B, 0xC),
        descriptor(0, 0xF_FFFF, 0x93, 0xC),
        descriptor(0, 0xF_FFFF, 0xFB, 0xC),
        descriptor(0, 0xF_FFFF, 0xF3, 0xC),
        gate(KERNEL_CODE as u16, HANDLER as u32, 0xEC, 1),
        descriptor(0, 0xF_FFFF, 0x13, 0xC),
        descriptor(TSS as u32, 0x67, 0x89, 0),
    ];
    for (number, entry) in (0..).zip(gdt) {
        guest.write_u64(GDT + number * 8, entry);
    }
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), 8 * 8 - 1);
    guest.set(Reg::Idtr(TableField::Base), IDT);
    guest.set(Reg::Idtr(TableField::Limit), 0x7FF);
    guest.write_u64(TSS + 4, KERNEL_STACK | KERNEL_DATA << 32);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Base), TSS);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Limit), 0x67);
    guest
}

fn set_handler(guest: &mut Guest, vector: u64, access: u8, code: &[u8]) {
    let at = HANDLER + 0x100 + vector * 0x20;
    guest.load(at, code);
    guest.write_u64(IDT + vector * 8, gate(KERNEL_CODE as u16, at as u32, access, 0));
}

fn selector(guest: &Guest, reg: SegReg) -> u64 {
    guest.vcpu.reg(Reg::Segment(reg, SegField::Selector))
}

fn u32_at(guest: &Guest, gpa: u64) -> u64 {
    u64::from(u32::from_le_bytes(guest.read(gpa)))
}

/// Kernel code that goes to [`USER`] in ring 3.
fn to_user(a: &mut CodeAssembler) {
    for value in [USER_DATA, USER_STACK, 0x202, USER_CODE, USER] {
        a.push(value as i32).unwrap();
    }
    a.iretd().unwrap();
}

#[test]
fn loading_a_data_segment_reads_its_descriptor_and_marks_it_accessed() {
    let mut guest = with_tables(Guest::protected_mode(|a| {
        a.mov(eax, 0x40).unwrap();
        a.mov(gs, eax).unwrap();
        a.hlt().unwrap();
    }));
    guest.write_u64(GDT + 0x40, descriptor(0x1_2000, 0x0FF, 0x92, 0x4));
    guest.set(Reg::Gdtr(TableField::Limit), 9 * 8 - 1);
    guest.run_to_hlt();
    let part = |field| guest.vcpu.reg(Reg::Segment(SegReg::Gs, field));
    assert_eq!(part(SegField::Base), 0x1_2000);
    assert_eq!(part(SegField::Limit), 0xFF);
    assert_eq!(part(SegField::Attrib), 0x4093);
    assert_eq!(guest.read::<1>(GDT + 0x45), [0x93]);
}

#[test]
fn illegal_segment_loads_fault_with_the_selector() {
    // Selector, register, vector, error code.
    let cases = [
        (0x48, ds, 13_u64, 0x48),
        (NOT_PRESENT, ds, 11, NOT_PRESENT),
        (NOT_PRESENT, ss, 12, NOT_PRESENT),
        (0, ss, 13, 0),
        (KERNEL_CODE, ss, 13, KERNEL_CODE),
        (USER_DATA, ss, 13, USER_DATA & !3),
        (TSS_SELECTOR, es, 13, TSS_SELECTOR),
    ];
    for (value, register, vector, code) in cases {
        let mut guest = with_tables(Guest::protected_mode(|a| {
            a.mov(eax, value as u32).unwrap();
            a.mov(register, eax).unwrap();
        }));
        set_handler(&mut guest, vector, 0x8E, &[0x59, 0xF4]);
        guest.run_to_hlt();
        assert_eq!(guest.gpr(Gpr::Rcx), code, "selector {value:#x}");
        assert_eq!(u32_at(&guest, guest.gpr(Gpr::Rsp)), START + 5);
    }
}

#[test]
fn a_null_data_segment_faults_only_when_used() {
    let mut guest = with_tables(Guest::protected_mode(|a| {
        a.xor(eax, eax).unwrap();
        a.mov(fs, eax).unwrap();
        a.inc(ebx).unwrap();
        a.mov(al, byte_ptr(ecx).fs()).unwrap();
    }));
    set_handler(&mut guest, 13, 0x8E, &[0x59, 0xF4]);
    guest.run_to_hlt();
    assert_eq!((guest.gpr(Gpr::Rbx), guest.gpr(Gpr::Rcx)), (1, 0));
}

#[test]
fn accesses_beyond_the_limit_fault() {
    let mut guest = with_tables(Guest::protected_mode(|a| {
        a.mov(al, byte_ptr(0xFFF)).unwrap();
        a.mov(eax, dword_ptr(0xFFD)).unwrap();
    }));
    guest.set(Reg::Segment(SegReg::Ds, SegField::Limit), 0xFFF);
    set_handler(&mut guest, 13, 0x8E, &[0x59, 0xF4]);
    guest.run_to_hlt();
    assert_eq!(u32_at(&guest, guest.gpr(Gpr::Rsp)), START + 5);
}

#[test]
fn an_interrupt_from_user_code_switches_stacks_and_returns() {
    let mut guest = with_tables(Guest::protected_mode(to_user));
    let user = assemble(32, USER, |a| {
        a.int(0x80).unwrap();
        a.cli().unwrap();
    });
    guest.load(USER, &user);
    set_handler(&mut guest, 0x80, 0xEE, &[0x43, 0xCF]);
    set_handler(&mut guest, 13, 0x8E, &[0xF4]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rbx), 1, "the gate's handler ran");
    assert_eq!(guest.gpr(Gpr::Rsp), KERNEL_STACK - 24);
    let frame = [0, USER + 2, USER_CODE, 0x1_0202, USER_STACK, USER_DATA];
    for (number, value) in (0..).zip(frame) {
        assert_eq!(u32_at(&guest, KERNEL_STACK - 24 + number * 4), value, "slot {number}");
    }
}

#[test]
fn int_through_a_kernel_gate_is_refused_to_user_code() {
    let mut guest = with_tables(Guest::protected_mode(to_user));
    guest.load(USER, &[0xCD, 0x80]);
    set_handler(&mut guest, 0x80, 0x8E, &[0x90]);
    set_handler(&mut guest, 13, 0x8E, &[0x59, 0xF4]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rcx), 0x80 * 8 + 2);
}

#[test]
fn a_call_gate_switches_the_stack_and_copies_parameters() {
    let mut guest = with_tables(Guest::protected_mode(to_user));
    let user = assemble(32, USER, |a| {
        a.push(0x1234).unwrap();
        a.db(&[0x9A, 0, 0, 0, 0, CALL_GATE as u8, 0]).unwrap();
        a.int3().unwrap();
    });
    guest.load(USER, &user);
    let inner = assemble(32, HANDLER, |a| {
        a.mov(ebx, dword_ptr(esp + 8)).unwrap();
        a.mov(edi, cs).unwrap();
        a.db(&[0xCA, 4, 0]).unwrap();
    });
    guest.load(HANDLER, &inner);
    set_handler(&mut guest, 3, 0xEE, &[0xF4]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rbx), 0x1234);
    assert_eq!(guest.gpr(Gpr::Rdi), KERNEL_CODE);
    assert_eq!(u32_at(&guest, KERNEL_STACK - 8), USER_STACK, "the parameter was released");
}

#[test]
fn io_without_permission_faults_and_the_bitmap_grants_it() {
    let mut guest = with_tables(Guest::protected_mode(to_user));
    guest.load(USER, &[0xE6, 0x80, 0xE6, 0x81]);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Limit), 0x67 + 0x20);
    guest.load(TSS + 0x66, &[0x68, 0]);
    guest.load(TSS + 0x68 + 0x10, &[0xFE, 0xFF]);
    set_handler(&mut guest, 13, 0x8E, &[0xF4]);
    assert!(matches!(guest.run(), Exit::Io(io) if io.port == 0x80));
    assert_eq!(guest.vcpu.complete(&[]), None);
    assert_eq!(guest.run(), Exit::Hlt);
}

#[test]
fn real_mode_enters_protected_mode_and_long_mode() {
    let mut guest = Guest::real_mode(|a| {
        a.mov(eax, 0x20).unwrap();
        a.mov(cr4, eax).unwrap();
        a.mov(eax, guest::PML4 as u32).unwrap();
        a.mov(cr3, eax).unwrap();
        a.mov(ecx, cpu_defs::msr::EFER).unwrap();
        a.mov(eax, 0x100).unwrap();
        a.xor(edx, edx).unwrap();
        a.wrmsr().unwrap();
        a.mov(eax, 0x8000_0011_u32).unwrap();
        a.mov(cr0, eax).unwrap();
        a.db(&[0x66, 0xEA, 0, 0xA0, 0, 0, 8, 0]).unwrap();
    });
    let long = Guest::long_mode(|a| a.hlt().unwrap());
    for at in (guest::PML4..guest::PML4 + 0x4000).step_by(8) {
        guest.write_u64(at, long.read_u64(at));
    }
    guest.write_u64(GDT + 8, descriptor(0, 0xF_FFFF, 0x9A, 0xA));
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), 0xF);
    let code = assemble(64, USER, |a| {
        a.mov(r8, 0x1122_3344_5566_7788_u64).unwrap();
        a.hlt().unwrap();
    });
    guest.load(USER, &code);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::R8), 0x1122_3344_5566_7788);
    assert_eq!(guest.vcpu.msr(cpu_defs::msr::EFER), Ok(0x500));
    assert_eq!(guest.vcpu.check_entry(), Ok(()));
}

#[test]
fn paging_without_protection_is_refused() {
    let mut guest = Guest::real_mode(|a| {
        a.mov(eax, 0x8000_0010_u32).unwrap();
        a.mov(cr0, eax).unwrap();
    });
    guest.load(13 * 4, &0x3000_u32.to_le_bytes());
    guest.load(0x3000, &[0xF4]);
    guest.run_to_hlt();
    assert_eq!(guest.vcpu.reg(Reg::Cr0) >> 31, 0);
}

#[test]
fn virtual_8086_code_traps_to_the_monitor() {
    let mut guest = with_tables(Guest::protected_mode(|a| {
        for value in [0, 0, 0, 0, 0, 0x8000, 0x2_0202, 0x0A00, 0] {
            a.push(value).unwrap();
        }
        a.iretd().unwrap();
    }));
    guest.load(USER, &[0xB8, 0x34, 0x12, 0xFA]);
    set_handler(&mut guest, 13, 0x8E, &[0xF4]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax) & 0xFFFF, 0x1234);
    assert_eq!(selector(&guest, SegReg::Ds), 0);
    assert_eq!(guest.gpr(Gpr::Rsp), KERNEL_STACK - 40);
    assert_eq!(u32_at(&guest, KERNEL_STACK - 36), 3);
    assert_eq!(u32_at(&guest, KERNEL_STACK - 28), 0x3_0202);
}
