//! 64-bit mode: paging, page faults, IRETQ, IST, SYSCALL and SYSRET.

mod guest;

use cpu_defs::{Gpr, Reg, SegField, SegReg, msr};
use cpu_engine::Exit;
use guest::{Guest, PAGE_TABLE, START, assemble, descriptor, each_tier, long_gate};
use iced_x86::code_asm::*;

const GDT: u64 = 0x5000;
const IDT: u64 = 0x6000;
const TSS: u64 = 0x7000;
const HANDLER: u64 = 0x9000;
const USER: u64 = 0xA000;
const KERNEL_STACK: u64 = 0xC000;
const USER_STACK: u64 = 0xE000;

/// GDT with code and data for both rings and a TSS, an IDT at [`IDT`].
fn with_tables(mut guest: Guest) -> Guest {
    let gdt = [
        0,
        descriptor(0, 0xF_FFFF, 0x9B, 0xA),
        descriptor(0, 0xF_FFFF, 0x93, 0xC),
        descriptor(0, 0xF_FFFF, 0xFB, 0xC),
        descriptor(0, 0xF_FFFF, 0xF3, 0xC),
        descriptor(0, 0xF_FFFF, 0xFB, 0xA),
    ];
    for (number, entry) in (0..).zip(gdt) {
        guest.write_u64(GDT + number * 8, entry);
    }
    guest.set(Reg::Gdtr(cpu_defs::TableField::Base), GDT);
    guest.set(Reg::Gdtr(cpu_defs::TableField::Limit), 0x2F);
    guest.set(Reg::Idtr(cpu_defs::TableField::Base), IDT);
    guest.set(Reg::Idtr(cpu_defs::TableField::Limit), 0xFFF);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Base), TSS);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Limit), 0x67);
    guest.write_u64(TSS + 4, KERNEL_STACK);
    guest
}

fn set_handler(guest: &mut Guest, vector: u64, ist: u8, code: &[u8]) {
    let at = HANDLER + vector * 0x40;
    guest.load(at, code);
    guest.load(IDT + vector * 16, &long_gate(8, at, 0x8E, ist));
}

#[test]
fn a_page_fault_reports_its_address_and_is_retried_after_iretq() {
    let mut guest = with_tables(Guest::long_mode(|a| {
        a.mov(rbx, 0x1F_0123_u64).unwrap();
        a.mov(dword_ptr(rbx), 0x55).unwrap();
        a.hlt().unwrap();
    }));
    let entry = PAGE_TABLE + 0x1F0 * 8;
    guest.write_u64(entry, 0);
    let handler = assemble(64, HANDLER + 14 * 0x40, |a| {
        a.pop(rdi).unwrap();
        a.mov(rsi, cr2).unwrap();
        a.mov(qword_ptr(entry), rax).unwrap();
        a.iretq().unwrap();
    });
    set_handler(&mut guest, 14, 0, &handler);
    guest.set_gpr(Gpr::Rax, 0x1F_0000 | 3);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rsi), 0x1F_0123);
    assert_eq!(guest.gpr(Gpr::Rdi), 2);
    assert_eq!(guest.read::<1>(0x1F_0123), [0x55]);
    assert_eq!(guest.gpr(Gpr::Rsp), START);
    assert_eq!(guest.read_u64(entry) & 0x60, 0x60, "accessed and dirty");
}

#[test]
fn an_instruction_that_faults_on_its_second_page_stores_nothing() {
    let mut guest = with_tables(Guest::long_mode(|a| {
        a.mov(rbx, 0x1E_FFFC_u64).unwrap();
        a.mov(qword_ptr(rbx), rax).unwrap();
        a.hlt().unwrap();
    }));
    guest.write_u64(PAGE_TABLE + 0x1F0 * 8, 0);
    set_handler(&mut guest, 14, 0, &[0xF4]);
    guest.set_gpr(Gpr::Rax, u64::MAX);
    guest.run_to_hlt();
    assert_eq!(guest.vcpu.reg(Reg::Cr2), 0x1F_0000);
    assert_eq!(guest.read_u64(0x1E_FFF8), 0);
}

#[test]
fn a_store_to_a_read_only_page_faults_with_write_protection() {
    let mut guest = with_tables(Guest::long_mode(|a| {
        a.mov(byte_ptr(0x4000), 1).unwrap();
        a.hlt().unwrap();
    }));
    guest.write_u64(PAGE_TABLE + 4 * 8, 0x4000 | 5);
    set_handler(&mut guest, 14, 0, &[0x58, 0xF4]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), 3);
}

#[test]
fn fetch_from_a_no_execute_page_faults_with_the_instruction_bit() {
    let mut guest = with_tables(Guest::long_mode(|a| {
        a.mov(rax, 0x4000_u64).unwrap();
        a.jmp(rax).unwrap();
    }));
    guest.write_u64(PAGE_TABLE + 4 * 8, 1 << 63 | 0x4000 | 3);
    set_handler(&mut guest, 14, 0, &[0x58, 0xF4]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), 0x11);
}

#[test]
fn interrupts_in_user_code_switch_to_the_kernel_stack_and_back() {
    let mut guest = with_tables(Guest::long_mode(|a| {
        for value in [0x23_u64, USER_STACK, 0x202, 0x2B, USER] {
            a.push(value as i32).unwrap();
        }
        a.iretq().unwrap();
    }));
    let user = assemble(64, USER, |a| {
        a.inc(rbx).unwrap();
        a.jmp(USER).unwrap();
    });
    guest.load(USER, &user);
    set_handler(&mut guest, 0x40, 0, &[0xF4, 0x48, 0xCF]);
    guest.vcpu.queue_interrupt(0x40).unwrap();
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.gpr(Gpr::Rsp), KERNEL_STACK - 40);
    assert_eq!(guest.vcpu.reg(Reg::Segment(SegReg::Cs, SegField::Selector)), 8);
    assert_eq!(guest.vcpu.reg(Reg::Segment(SegReg::Ss, SegField::Selector)), 0);
    let frame = [USER, 0x2B, 0x202, USER_STACK, 0x23];
    for (number, value) in (0..).zip(frame) {
        assert_eq!(guest.read_u64(KERNEL_STACK - 40 + number * 8), value, "slot {number}");
    }
    assert_eq!(guest.vcpu.run(true), Exit::InterruptWindow);
    assert_eq!(guest.vcpu.reg(Reg::Segment(SegReg::Cs, SegField::Selector)), 0x2B);
    assert_eq!(guest.gpr(Gpr::Rsp), USER_STACK);
}

#[test]
fn an_interrupt_stack_table_entry_replaces_the_stack() {
    let mut guest = with_tables(Guest::long_mode(|a| {
        a.ud2().unwrap();
    }));
    guest.write_u64(TSS + 0x24, 0xD008);
    set_handler(&mut guest, 6, 1, &[0xF4]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rsp), 0xD000 - 40);
    assert_eq!(guest.read_u64(0xD000 - 16), START, "the old stack pointer");
}

#[test]
fn syscall_enters_the_kernel_and_sysret_returns() {
    let mut guest = with_tables(Guest::long_mode(|a| {
        a.mov(rcx, USER).unwrap();
        a.mov(r11d, 0x202).unwrap();
        a.sysretq().unwrap();
    }));
    let user = assemble(64, USER, |a| {
        a.mov(eax, 39).unwrap();
        a.syscall().unwrap();
    });
    guest.load(USER, &user);
    guest.load(HANDLER, &[0xF4]);
    guest.vcpu.set_msr(msr::STAR, 0x001B_0008_0000_0000).unwrap();
    guest.vcpu.set_msr(msr::LSTAR, HANDLER).unwrap();
    guest.vcpu.set_msr(msr::SFMASK, 0x200).unwrap();
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), 39);
    assert_eq!(guest.gpr(Gpr::Rcx), USER + user.len() as u64);
    assert_eq!(guest.gpr(Gpr::R11), 0x202);
    assert_eq!(guest.vcpu.reg(Reg::Rflags), 2);
    assert_eq!(guest.vcpu.reg(Reg::Segment(SegReg::Cs, SegField::Attrib)), 0xA09B);
}

#[test]
fn non_canonical_addresses_raise_gp_or_ss() {
    for (register_is_stack, vector) in [(false, 13_u64), (true, 12)] {
        let mut guest = with_tables(Guest::long_mode(|a| {
            a.mov(rbx, 0x8000_0000_0000_u64).unwrap();
            if register_is_stack {
                a.mov(rbp, rbx).unwrap();
                a.mov(rax, qword_ptr(rbp)).unwrap();
            } else {
                a.mov(rax, qword_ptr(rbx)).unwrap();
            }
        }));
        set_handler(&mut guest, vector, 0, &[0x58, 0xF4]);
        guest.run_to_hlt();
        assert_eq!(guest.gpr(Gpr::Rax), 0);
        assert_eq!(guest.rip(), HANDLER + vector * 0x40 + 2);
    }
}

#[test]
fn an_instruction_across_pages_executes() {
    let mut guest = Guest::long_mode(|a| {
        a.jmp(0x3FFB_u64).unwrap();
    });
    let code = assemble(64, 0x3FFB, |a| {
        a.mov(rax, 0x1122_3344_5566_7788_u64).unwrap();
        a.hlt().unwrap();
    });
    guest.load(0x3FFB, &code);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), 0x1122_3344_5566_7788);
}

#[test]
fn returns_lead_where_the_stack_says() {
    let mut guest = Guest::long_mode(|a| {
        let (mut head, mut function) = (a.create_label(), a.create_label());
        let (mut elsewhere, mut thunk) = (a.create_label(), a.create_label());
        a.mov(ecx, 100).unwrap();
        a.set_label(&mut head).unwrap();
        a.call(function).unwrap();
        a.inc(rax).unwrap();
        // Where it is, and a return that nobody called for.
        a.call(thunk).unwrap();
        a.set_label(&mut thunk).unwrap();
        a.pop(rdx).unwrap();
        a.lea(rdx, ptr(elsewhere)).unwrap();
        a.push(rdx).unwrap();
        a.ret().unwrap();
        a.hlt().unwrap();
        a.set_label(&mut elsewhere).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(head).unwrap();
        a.hlt().unwrap();
        // Every other time it returns behind the increment.
        a.set_label(&mut function).unwrap();
        a.mov(rdx, rcx).unwrap();
        a.and(rdx, 1).unwrap();
        a.lea(rdx, ptr(rdx + rdx * 2)).unwrap();
        a.add(ptr(rsp), rdx).unwrap();
        a.ret().unwrap();
    });
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), 50);
}

#[test]
fn an_indirect_call_of_no_address_faults_before_it_pushes() {
    let program = |a: &mut CodeAssembler| {
        let (mut head, mut call) = (a.create_label(), a.create_label());
        let mut function = a.create_label();
        a.mov(ecx, 100).unwrap();
        a.lea(rax, ptr(function)).unwrap();
        a.lea(rbp, ptr(call)).unwrap();
        a.mov(rdx, 1_u64 << 47).unwrap();
        a.set_label(&mut head).unwrap();
        a.cmp(ecx, 1).unwrap();
        a.cmove(rax, rdx).unwrap();
        a.set_label(&mut call).unwrap();
        a.call(rax).unwrap();
        a.dec(ecx).unwrap();
        a.jmp(head).unwrap();
        a.set_label(&mut function).unwrap();
        a.inc(rbx).unwrap();
        a.ret().unwrap();
    };
    // pop rax; pop rdx; mov rdi, [rsp + 16]; hlt
    let handler = [0x58, 0x5A, 0x48, 0x8B, 0x7C, 0x24, 0x10, 0xF4];
    each_tier(
        || {
            let mut guest = with_tables(Guest::long_mode(program));
            set_handler(&mut guest, 13, 0, &handler);
            guest
        },
        |guest| {
            let stack = guest.gpr(Gpr::Rsp);
            guest.run_to_hlt();
            assert_eq!((guest.gpr(Gpr::Rax), guest.gpr(Gpr::Rbx)), (0, 99));
            assert_eq!(guest.gpr(Gpr::Rdx), guest.gpr(Gpr::Rbp));
            assert_eq!(guest.gpr(Gpr::Rdi), stack);
        },
    );
}

#[test]
fn a_return_keeps_flags() {
    let mut guest = Guest::long_mode(|a| {
        let (mut head, mut function) = (a.create_label(), a.create_label());
        a.mov(ecx, 100).unwrap();
        a.set_label(&mut head).unwrap();
        a.call(function).unwrap();
        a.adc(rax, 0).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(head).unwrap();
        a.hlt().unwrap();
        a.set_label(&mut function).unwrap();
        a.push(rbx).unwrap();
        a.pop(rbx).unwrap();
        a.cmp(rcx, 31).unwrap();
        a.ret().unwrap();
    });
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), 30);
}

#[test]
fn sixteen_bytes_of_prefixes_are_too_long() {
    let mut guest = with_tables(Guest::long_mode(|a| {
        a.db(&[0x66; 15]).unwrap();
        a.nop().unwrap();
    }));
    for vector in [6, 13] {
        set_handler(&mut guest, vector, 0, &[0xF4]);
    }
    guest.run_to_hlt();
    assert_eq!(guest.rip(), HANDLER + 13 * 0x40 + 1);
}

#[test]
fn host_translation_follows_the_page_tables() {
    let mut guest = Guest::long_mode(|a| {
        a.hlt().unwrap();
    });
    guest.write_u64(PAGE_TABLE + 4 * 8, 0x8000 | 1);
    let found = guest.vcpu.translate(0x4567).unwrap();
    assert_eq!((found.gpa, found.writable, found.user), (0x8567, false, false));
    assert_eq!(guest.vcpu.translate(0x4000_0000), None);
    assert_eq!(guest.read_u64(PAGE_TABLE + 4 * 8), 0x8001, "no accessed bit");
}

#[test]
fn byte_registers_depend_on_the_rex_prefix() {
    let mut guest = Guest::long_mode(|a| {
        a.mov(ah, 0x11).unwrap();
        a.mov(bh, ah).unwrap();
        a.mov(spl, 0x22).unwrap();
        a.mov(dil, spl).unwrap();
        a.mov(r8b, 0x33).unwrap();
        a.mov(r15b, r8b).unwrap();
        a.hlt().unwrap();
    });
    for gpr in [Gpr::Rax, Gpr::Rbx, Gpr::Rdi, Gpr::R8, Gpr::R15] {
        guest.set_gpr(gpr, 0);
    }
    guest.run_to_hlt();
    let values = [Gpr::Rax, Gpr::Rbx, Gpr::Rdi, Gpr::R8, Gpr::R15].map(|gpr| guest.gpr(gpr));
    assert_eq!(values, [0x1100, 0x1100, 0x22, 0x33, 0x33]);
}
