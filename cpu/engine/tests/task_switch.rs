//! Hardware task switches: TSS descriptors, task gates, IRET with NT.

mod guest;

use cpu_defs::{Gpr, Reg, SegField, SegReg, TableField};
use cpu_engine::Exit;
use guest::{Guest, START, assemble, descriptor, gate};
use iced_x86::code_asm::*;

const GDT: u64 = 0x5000;
const IDT: u64 = 0x6000;
const OLD_TSS: u64 = 0x7000;
const NEW_TSS: u64 = 0x7200;
const SHORT_TSS: u64 = 0x7400;
const HANDLERS: u64 = 0x9000;
const TASK: u64 = 0xA000;
const TASK_STACK: u64 = 0xE000;

const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const OLD: u16 = 0x18;
const NEW: u16 = 0x20;
const SHORT: u16 = 0x28;
const TASK_GATE: u16 = 0x30;
const LDT: u16 = 0x38;
const SPARE: u16 = 0x40;

const RFLAGS_NT: u64 = 1 << 14;

/// A machine in the old task, with `program` in it and `task` as the code of the new one.
fn machine(
    program: impl FnOnce(&mut CodeAssembler),
    task: impl FnOnce(&mut CodeAssembler),
) -> Guest {
    let mut guest = Guest::protected_mode(program);
    let gdt = [
        0,
        descriptor(0, 0xF_FFFF, 0x9B, 0xC),
        descriptor(0, 0xF_FFFF, 0x93, 0xC),
        descriptor(OLD_TSS as u32, 0x67, 0x8B, 0),
        descriptor(NEW_TSS as u32, 0x67, 0x89, 0),
        descriptor(SHORT_TSS as u32, 0x2B, 0x81, 0),
        gate(NEW, 0, 0x85, 0),
        descriptor(0x8000, 0xFF, 0x82, 0),
        descriptor(0, 0xF_FFFF, 0x93, 0xC),
    ];
    for (number, entry) in (0..).zip(gdt) {
        guest.write_u64(GDT + number * 8, entry);
    }
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), gdt.len() as u64 * 8 - 1);
    guest.set(Reg::Idtr(TableField::Base), IDT);
    guest.set(Reg::Idtr(TableField::Limit), 0x7FF);
    for (field, value) in [
        (SegField::Selector, u64::from(OLD)),
        (SegField::Base, OLD_TSS),
        (SegField::Limit, 0x67),
        (SegField::Attrib, 0x8B),
    ] {
        guest.set(Reg::Segment(SegReg::Tr, field), value);
    }
    fill_tss(&mut guest);
    guest.load(TASK, &assemble(32, TASK, task));
    guest
}

fn fill_tss(guest: &mut Guest) {
    let words = [TASK, 0x202, 0x11, 0x22, 0x33, 0x44, TASK_STACK, 0x55, 0x66, 0x77];
    let segments = [DATA, CODE, DATA, DATA, 0, DATA].map(u64::from);
    for (number, word) in (0..).zip(words) {
        guest.load(NEW_TSS + 0x20 + number * 4, &(word as u32).to_le_bytes());
        guest.load(SHORT_TSS + 0xE + number * 2, &(word as u16).to_le_bytes());
    }
    for (number, selector) in (0..).zip(segments) {
        guest.load(NEW_TSS + 0x48 + number * 4, &(selector as u32).to_le_bytes());
    }
    for (number, selector) in (0..).zip(&segments[..4]) {
        guest.load(SHORT_TSS + 0x22 + number * 2, &(*selector as u16).to_le_bytes());
    }
    guest.load(NEW_TSS + 0x60, &u32::from(LDT).to_le_bytes());
}

/// CALL or JMP to a selector.
fn far(opcode: u8, selector: u16) -> [u8; 7] {
    let [low, high] = selector.to_le_bytes();
    [opcode, 0, 0, 0, 0, low, high]
}

const CALL: u8 = 0x9A;
const JMP: u8 = 0xEA;

fn far_then_hlt(opcode: u8, selector: u16) -> impl FnOnce(&mut CodeAssembler) {
    move |a| {
        a.db(&far(opcode, selector)).unwrap();
        a.hlt().unwrap();
    }
}

fn hlt(a: &mut CodeAssembler) {
    a.hlt().unwrap();
}

fn word(guest: &Guest, gpa: u64) -> u16 {
    u16::from_le_bytes(guest.read(gpa))
}

fn dword(guest: &Guest, gpa: u64) -> u64 {
    u64::from(u32::from_le_bytes(guest.read(gpa)))
}

fn access_byte(guest: &Guest, selector: u16) -> u8 {
    guest.read::<1>(GDT + u64::from(selector) + 5)[0]
}

fn selector(guest: &Guest, reg: SegReg) -> u64 {
    guest.vcpu.reg(Reg::Segment(reg, SegField::Selector))
}

/// The handler of a vector pops the error code to ECX and halts.
fn catch(guest: &mut Guest, vector: u64) {
    let at = HANDLERS + vector * 0x10;
    guest.load(at, &[0x59, 0xF4]);
    guest.write_u64(IDT + vector * 8, gate(CODE, at as u32, 0x8E, 0));
}

/// Runs into the handler of `vector`; its error code.
fn caught(guest: &mut Guest, vector: u64) -> u64 {
    catch(guest, vector);
    guest.run_to_hlt();
    assert_eq!(guest.rip(), HANDLERS + vector * 0x10 + 2, "not in the handler");
    guest.gpr(Gpr::Rcx)
}

#[test]
fn a_jump_loads_the_new_task_and_frees_the_old() {
    for target in [NEW, TASK_GATE] {
        let mut guest = machine(far_then_hlt(JMP, target), hlt);
        guest.set_gpr(Gpr::Rsi, 0x1234_5678);
        guest.set(Reg::Dr7, 0x7FF);
        guest.run_to_hlt();
        assert_eq!(guest.rip(), TASK + 1);
        assert_eq!((guest.gpr(Gpr::Rax), guest.gpr(Gpr::Rdi)), (0x11, 0x77));
        assert_eq!(guest.gpr(Gpr::Rsp), TASK_STACK);
        assert_eq!(selector(&guest, SegReg::Tr), u64::from(NEW));
        assert_eq!(selector(&guest, SegReg::Ldtr), u64::from(LDT));
        assert_eq!(guest.vcpu.reg(Reg::Segment(SegReg::Ldtr, SegField::Base)), 0x8000);
        assert_eq!((access_byte(&guest, OLD), access_byte(&guest, NEW)), (0x89, 0x8B));
        assert_eq!(guest.vcpu.reg(Reg::Cr0) & 8, 8, "CR0.TS");
        assert_eq!(guest.vcpu.reg(Reg::Rflags), 0x202, "no NT");
        assert_eq!(guest.vcpu.reg(Reg::Dr7), 0x6AA, "local breakpoints are off");
        assert_eq!(dword(&guest, OLD_TSS + 0x20), START + 7);
        assert_eq!(dword(&guest, OLD_TSS + 0x40), 0x1234_5678);
        assert_eq!(dword(&guest, OLD_TSS + 0x4C), u64::from(CODE));
        assert_eq!(word(&guest, NEW_TSS), 0, "no back link");
    }
}

#[test]
fn a_call_links_and_iret_goes_back() {
    let mut guest = machine(far_then_hlt(CALL, NEW), |a| {
        a.pushfd().unwrap();
        a.pop(ebx).unwrap();
        a.iretd().unwrap();
        a.hlt().unwrap();
    });
    guest.run_to_hlt();
    assert_eq!(guest.rip(), START + 8, "back in the old task");
    assert_eq!(selector(&guest, SegReg::Tr), u64::from(OLD));
    assert_eq!((access_byte(&guest, OLD), access_byte(&guest, NEW)), (0x8B, 0x89));
    assert_eq!(word(&guest, NEW_TSS), OLD, "the back link");
    assert_eq!(dword(&guest, NEW_TSS + 0x34), 0x202 | RFLAGS_NT, "EBX saw NT");
    assert_eq!(dword(&guest, NEW_TSS + 0x24) & RFLAGS_NT, 0, "IRET clears NT in what it saves");
    assert_eq!(dword(&guest, NEW_TSS + 0x20), TASK + 3, "behind the IRET");
}

#[test]
fn a_16_bit_task_saves_and_loads_16_bits() {
    let mut guest = machine(far_then_hlt(CALL, SHORT), |a| {
        a.mov(eax, 0xABCD_1234_u32).unwrap();
        a.iretd().unwrap();
    });
    guest.set_gpr(Gpr::Rbp, 0xAAAA_BBBB);
    guest.run_to_hlt();
    assert_eq!(guest.rip(), START + 8);
    assert_eq!(word(&guest, SHORT_TSS + 0x12), 0x1234);
    assert_eq!(word(&guest, SHORT_TSS), OLD);
    assert_eq!(guest.gpr(Gpr::Rbp), 0xAAAA_BBBB);
    assert_eq!((access_byte(&guest, OLD), access_byte(&guest, SHORT)), (0x8B, 0x81));
}

#[test]
fn checks_before_the_switch_fault_in_the_old_task() {
    let busy = descriptor(NEW_TSS as u32, 0x67, 0x8B, 0);
    let absent = descriptor(NEW_TSS as u32, 0x67, 0x09, 0);
    let small = descriptor(NEW_TSS as u32, 0x66, 0x89, 0);
    let small16 = descriptor(NEW_TSS as u32, 0x2A, 0x81, 0);
    let to_ldt = gate(NEW | 4, 0, 0x85, 0);
    let to_data = gate(DATA, 0, 0x85, 0);
    let beyond = gate(0x1000, 0, 0x85, 0);
    let gone = gate(NEW, 0, 0x05, 0);
    // What the selector names, vector, error code.
    let cases = [
        (busy, 13, u64::from(SPARE)),
        (absent, 11, u64::from(SPARE)),
        (small, 10, u64::from(SPARE)),
        (small16, 10, u64::from(SPARE)),
        (to_ldt, 13, u64::from(NEW | 4)),
        (to_data, 13, u64::from(DATA)),
        (beyond, 13, 0x1000),
        (gone, 11, u64::from(SPARE)),
    ];
    for (entry, vector, code) in cases {
        let mut guest = machine(far_then_hlt(JMP, SPARE), hlt);
        guest.write_u64(GDT + u64::from(SPARE), entry);
        assert_eq!(caught(&mut guest, vector), code, "{entry:#x}");
        assert_eq!(dword(&guest, guest.gpr(Gpr::Rsp)), START, "in the old task");
        assert_eq!(selector(&guest, SegReg::Tr), u64::from(OLD));
    }
}

#[test]
fn an_old_tss_too_small_to_save_to_faults() {
    let mut guest = machine(far_then_hlt(JMP, NEW), hlt);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Limit), 0x5E);
    assert_eq!(caught(&mut guest, 10), u64::from(OLD));
}

#[test]
fn selectors_are_qualified_in_the_new_task() {
    // Offset in the TSS, selector, vector.
    let cases = [
        (0x60, DATA, 10),
        (0x60, LDT | 4, 10),
        (0x50, 0, 10),
        (0x50, CODE, 10),
        (0x48, OLD, 10),
        (0x54, SPARE, 11),
        (0x50, SPARE, 12),
    ];
    for (offset, value, vector) in cases {
        let mut guest = machine(far_then_hlt(CALL, NEW), hlt);
        guest.write_u64(GDT + u64::from(SPARE), descriptor(0, 0xF_FFFF, 0x13, 0xC));
        guest.load(NEW_TSS + offset, &value.to_le_bytes());
        // The stack of the new task may not be usable, so the handler is a task.
        guest.load(SHORT_TSS + 0xE, &(HANDLERS as u16).to_le_bytes());
        guest.load(HANDLERS, &[0x66, 0x59, 0xF4]);
        guest.write_u64(IDT + vector * 8, gate(SHORT, 0, 0x85, 0));
        guest.run_to_hlt();
        assert_eq!(guest.rip(), HANDLERS + 3, "{offset:#x} {value:#x}");
        assert_eq!(guest.gpr(Gpr::Rcx) & 0xFFFF, u64::from(value), "{offset:#x}");
        assert_eq!(word(&guest, SHORT_TSS), NEW, "the fault is the new task's");
        assert_eq!(dword(&guest, NEW_TSS + 0x20), TASK, "before its first instruction");
        assert_eq!(word(&guest, NEW_TSS), OLD);
    }
}

#[test]
fn an_eip_beyond_the_code_segment_faults_in_the_new_task() {
    let mut guest = machine(far_then_hlt(JMP, NEW), hlt);
    guest.write_u64(GDT + u64::from(SPARE), descriptor(0, 0xFFF, 0x9B, 0x4));
    guest.load(NEW_TSS + 0x4C, &SPARE.to_le_bytes());
    assert_eq!(caught(&mut guest, 13), 0);
    assert_eq!(selector(&guest, SegReg::Tr), u64::from(NEW));
    assert_eq!(dword(&guest, guest.gpr(Gpr::Rsp)), TASK);
}

#[test]
fn an_exception_through_a_task_gate_pushes_its_error_code_there() {
    let mut guest = machine(
        |a| {
            a.mov(eax, 0x1000).unwrap();
            a.mov(ds, eax).unwrap();
        },
        |a| {
            a.pop(ecx).unwrap();
            a.hlt().unwrap();
        },
    );
    guest.write_u64(IDT + 13 * 8, gate(NEW, 0, 0x85, 0));
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rcx), 0x1000);
    assert_eq!(dword(&guest, OLD_TSS + 0x20), START + 5, "at the faulting instruction");
    assert_eq!(dword(&guest, OLD_TSS + 0x24), 0x1_0002, "RF in the saved flags");
}

#[test]
fn a_double_fault_task_starts_on_a_broken_stack() {
    let mut guest = machine(
        |a| a.push(eax).unwrap(),
        |a| {
            a.pop(ecx).unwrap();
            a.hlt().unwrap();
        },
    );
    guest.set(Reg::Segment(SegReg::Ss, SegField::Limit), 0x10);
    catch(&mut guest, 12);
    guest.write_u64(IDT + 8 * 8, gate(NEW, 0, 0x85, 0));
    guest.set_gpr(Gpr::Rcx, 5);
    guest.run_to_hlt();
    assert_eq!(guest.rip(), TASK + 2);
    assert_eq!(guest.gpr(Gpr::Rcx), 0);
    assert_eq!(word(&guest, NEW_TSS), OLD);
}

#[test]
fn int_through_a_task_gate_and_its_iret_resume_behind_it() {
    let mut guest = machine(
        |a| {
            a.int(0x40).unwrap();
            a.hlt().unwrap();
        },
        |a| a.iretd().unwrap(),
    );
    guest.write_u64(IDT + 0x40 * 8, gate(NEW, 0, 0x85, 0));
    guest.run_to_hlt();
    assert_eq!(guest.rip(), START + 3);
}

#[test]
fn a_busy_task_cannot_take_an_interrupt() {
    let mut guest = machine(|a| a.int(0x40).unwrap(), hlt);
    guest.write_u64(IDT + 0x40 * 8, gate(OLD, 0, 0x85, 0));
    assert_eq!(caught(&mut guest, 13), u64::from(OLD), "INT n: no EXT");
    let mut guest = machine(hlt, hlt);
    guest.write_u64(IDT + 0x40 * 8, gate(OLD, 0, 0x85, 0));
    guest.set(Reg::Rflags, 0x202);
    guest.vcpu.queue_interrupt(0x40).expect("nothing is queued");
    assert_eq!(caught(&mut guest, 13), u64::from(OLD | 1), "an interrupt: EXT");
}

#[test]
fn iret_with_nt_checks_the_link() {
    // Link, vector, error code.
    let cases = [
        (NEW, 10, u64::from(NEW)),
        (OLD | 4, 10, u64::from(OLD | 4)),
        (DATA, 10, u64::from(DATA)),
        (0, 10, 0),
        (SPARE, 11, u64::from(SPARE)),
    ];
    for (link, vector, code) in cases {
        let mut guest = machine(|a| a.iretd().unwrap(), hlt);
        guest.write_u64(GDT + u64::from(SPARE), descriptor(NEW_TSS as u32, 0x67, 0x0B, 0));
        guest.load(OLD_TSS, &link.to_le_bytes());
        guest.set(Reg::Rflags, 2 | RFLAGS_NT);
        assert_eq!(caught(&mut guest, vector), code, "{link:#x}");
    }
}

#[test]
fn the_t_flag_traps_before_the_first_instruction() {
    let mut guest = machine(far_then_hlt(JMP, NEW), |a| {
        a.inc(eax).unwrap();
        a.hlt().unwrap();
    });
    guest.load(NEW_TSS + 0x64, &[1]);
    catch(&mut guest, 1);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rcx), TASK, "the return address");
    assert_eq!(guest.gpr(Gpr::Rax), 0x11);
    assert_eq!(guest.vcpu.reg(Reg::Dr6), 0xFFFF_8FF0);
}

#[test]
fn a_task_can_be_virtual_8086() {
    let mut guest = machine(far_then_hlt(JMP, NEW), hlt);
    let code = assemble(16, 0x100, |a| {
        a.mov(ax, ds).unwrap();
        a.cli().unwrap();
    });
    guest.load(0xA100, &code);
    guest.load(NEW_TSS + 0x20, &0x100_u32.to_le_bytes());
    guest.load(NEW_TSS + 0x24, &0x2_0202_u32.to_le_bytes());
    for offset in [0x48, 0x4C, 0x50, 0x54] {
        guest.load(NEW_TSS + offset, &0x0A00_u16.to_le_bytes());
    }
    guest.load(NEW_TSS + 4, &(TASK_STACK as u32).to_le_bytes());
    guest.load(NEW_TSS + 8, &DATA.to_le_bytes());
    assert_eq!(caught(&mut guest, 13), 0);
    assert_eq!(guest.gpr(Gpr::Rax) & 0xFFFF, 0x0A00);
    assert_eq!(dword(&guest, guest.gpr(Gpr::Rsp)), 0x102, "IP of the CLI");
    assert_eq!(dword(&guest, guest.gpr(Gpr::Rsp) + 8) & 0x2_0000, 0x2_0000);
}

#[test]
fn cr3_is_loaded_with_paging() {
    let mut guest = machine(far_then_hlt(JMP, NEW), hlt);
    const DIRECTORY: u64 = 0x10_0000;
    for at in [DIRECTORY, DIRECTORY + 0x1000] {
        guest.load(at, &0x83_u32.to_le_bytes());
    }
    guest.set(Reg::Cr4, 0x10);
    guest.set(Reg::Cr3, DIRECTORY);
    guest.set(Reg::Cr0, 0x8000_0011);
    guest.load(NEW_TSS + 0x1C, &(DIRECTORY as u32 + 0x1000).to_le_bytes());
    guest.run_to_hlt();
    assert_eq!(guest.vcpu.reg(Reg::Cr3), DIRECTORY + 0x1000);
}

#[test]
fn long_mode_has_no_task_switches() {
    let mut guest = Guest::long_mode(|a| a.iretq().unwrap());
    guest.write_u64(GDT + 8, descriptor(0, 0xF_FFFF, 0x9B, 0xA));
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), 0xF);
    guest.set(Reg::Idtr(TableField::Base), IDT);
    guest.set(Reg::Idtr(TableField::Limit), 0xFFF);
    guest.load(IDT + 13 * 16, &guest::long_gate(8, HANDLERS, 0x8E, 0));
    guest.load(HANDLERS, &[0x59, 0xF4]);
    guest.set(Reg::Rflags, 2 | RFLAGS_NT);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.gpr(Gpr::Rcx), 0);
}
