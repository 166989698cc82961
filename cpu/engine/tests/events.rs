//! Events that wait or are in flight, NMI blocking, error codes of stacks that do not hold a frame.

mod guest;

use cpu_defs::{Exception, Gpr, Reg, SegField, SegReg, TableField};
use cpu_engine::{Events, Exit, InjectedInterrupt, QueuedException, Shadow, Stage};
use guest::{Guest, START, assemble, descriptor, gate};
use iced_x86::code_asm::*;

const GDT: u64 = 0x5000;
const IDT: u64 = 0x6000;
const TSS: u64 = 0x7000;
const TASK: u64 = 0x7100;
const HANDLERS: u64 = 0x9000;
const USER: u64 = 0xA000;
const KERNEL_STACK: u64 = 0xC000;
const TASK_STACK: u64 = 0xD000;

const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const SHORT_STACK: u16 = 0x28;
const SHORT_CODE: u16 = 0x30;
const TASK_TSS: u16 = 0x38;
const CALL_GATE: u16 = 0x40;

/// Flat kernel code; every handler halts, then returns.
fn machine(program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = Guest::protected_mode(program);
    let gdt = [
        0,
        descriptor(0, 0xF_FFFF, 0x9B, 0xC),
        descriptor(0, 0xF_FFFF, 0x93, 0xC),
        descriptor(0, 0xF_FFFF, 0xFB, 0xC),
        descriptor(0, 0xF_FFFF, 0xF3, 0xC),
        descriptor(0, 0x7, 0x93, 0x4),
        descriptor(0, 0xFFF, 0x9B, 0x4),
        descriptor(TASK as u32, 0x67, 0x89, 0),
        gate(CODE, HANDLERS as u32, 0xEC, 0),
    ];
    for (number, entry) in (0..).zip(gdt) {
        guest.write_u64(GDT + number * 8, entry);
    }
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), gdt.len() as u64 * 8 - 1);
    guest.set(Reg::Idtr(TableField::Base), IDT);
    guest.set(Reg::Idtr(TableField::Limit), 0x7FF);
    for vector in 0..0x50 {
        let at = HANDLERS + vector * 0x10;
        guest.load(at, &[0xF4, 0xCF]);
        guest.write_u64(IDT + vector * 8, gate(CODE, at as u32, 0x8E, 0));
    }
    guest.write_u64(TSS + 4, KERNEL_STACK | u64::from(DATA) << 32);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Base), TSS);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Limit), 0x67);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Attrib), 0x8B);
    guest
}

/// The same with the processor in user code.
fn user(program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = machine(|_| {});
    guest.load(USER, &assemble(32, USER, program));
    guest.set_flat(SegReg::Cs, 0x1B, 0xC0FB);
    guest.set_flat(SegReg::Ss, 0x23, 0xC0F3);
    guest.set(Reg::Rip, USER);
    guest
}

/// A vector goes to a task, whose stack shows the error code.
fn to_task(guest: &mut Guest, vector: u64) {
    let words = [HANDLERS, 2, 0, 0, 0, 0, TASK_STACK];
    for (number, word) in (0..).zip(words) {
        guest.load(TASK + 0x20 + number * 4, &(word as u32).to_le_bytes());
    }
    for (number, selector) in (0..).zip([DATA, CODE, DATA, DATA]) {
        guest.load(TASK + 0x48 + number * 4, &u32::from(selector).to_le_bytes());
    }
    guest.write_u64(IDT + vector * 8, gate(TASK_TSS, 0, 0x85, 0));
}

fn stacked(guest: &Guest, slot: u64) -> u64 {
    u64::from(u32::from_le_bytes(guest.read(guest.gpr(Gpr::Rsp) + slot * 4)))
}

/// Runs into a handler: its vector.
fn vector(guest: &mut Guest) -> u64 {
    assert_eq!(guest.run(), Exit::Hlt);
    (guest.rip() - HANDLERS) / 0x10
}

fn pending(exception: Exception) -> Events {
    let stage = Stage::Pending;
    Events { exception: Some(QueuedException { exception, stage }), ..Events::default() }
}

#[test]
fn what_is_set_is_read_back() {
    let mut guest = machine(|_| {});
    let events = Events {
        exception: Some(QueuedException {
            exception: Exception::debug(0x4001),
            stage: Stage::Pending,
        }),
        interrupt: Some(InjectedInterrupt { vector: 0x31, soft_len: Some(2) }),
        nmi_injected: true,
        nmi_pending: true,
        nmi_blocked: true,
        shadow: Shadow::MovSs,
        debug_traps: 3,
        triple_fault: true,
        smi_pending: true,
        smm: true,
        smm_inside_nmi: true,
    };
    guest.vcpu.set_events(&events);
    assert_eq!(guest.vcpu.events(), events);
    assert!(!guest.vcpu.interruptible());
    guest.vcpu.init_reset();
    assert_eq!(guest.vcpu.events(), Events::default());
}

#[test]
fn a_payload_reaches_its_register_with_the_delivery() {
    let mut guest = machine(|_| {});
    guest.vcpu.set_events(&pending(Exception::page_fault(2, 0x1234_5000)));
    assert_eq!(guest.vcpu.reg(Reg::Cr2), 0);
    assert_eq!(vector(&mut guest), 14);
    assert_eq!((guest.vcpu.reg(Reg::Cr2), stacked(&guest, 0)), (0x1234_5000, 2));
    guest.vcpu.set_events(&pending(Exception::debug(0x4002)));
    assert_eq!(vector(&mut guest), 1);
    assert_eq!(guest.vcpu.reg(Reg::Dr6), 0xFFFF_4FF2);
    assert_eq!(guest.vcpu.events(), Events::default());
}

#[test]
fn an_injected_interrupt_asks_no_flag() {
    let mut guest = machine(|_| {});
    let interrupt = Some(InjectedInterrupt { vector: 0x31, soft_len: None });
    guest.vcpu.set_events(&Events { interrupt, ..Events::default() });
    assert_eq!(vector(&mut guest), 0x31);
    assert_eq!(stacked(&guest, 0), START);
}

#[test]
fn an_injected_int_n_returns_behind_it_and_obeys_the_gate() {
    let interrupt = Some(InjectedInterrupt { vector: 0x31, soft_len: Some(2) });
    let mut guest = machine(|_| {});
    guest.vcpu.set_events(&Events { interrupt, ..Events::default() });
    assert_eq!(vector(&mut guest), 0x31);
    assert_eq!(stacked(&guest, 0), START + 2);
    let mut guest = user(|_| {});
    guest.vcpu.set_events(&Events { interrupt, ..Events::default() });
    assert_eq!(vector(&mut guest), 13);
    assert_eq!((stacked(&guest, 0), stacked(&guest, 1)), (0x31 * 8 + 2, USER));
}

#[test]
fn an_event_that_cannot_be_delivered_stays_injected() {
    let mut guest = machine(|_| {});
    guest.set(Reg::Idtr(TableField::Base), 0x100_0000);
    guest.vcpu.set_events(&pending(Exception::gp(0x50)));
    assert!(matches!(guest.run(), Exit::EmulationFailure { .. }));
    let exception = guest.vcpu.events().exception.expect("it has not been delivered");
    assert_eq!((exception.stage, exception.exception.error_code), (Stage::Injected, Some(0x50)));
    guest.set(Reg::Idtr(TableField::Base), IDT);
    assert_eq!(vector(&mut guest), 13);
    assert_eq!(guest.vcpu.events().exception, None);
}

#[test]
fn exceptions_come_before_nmis_and_those_before_interrupts() {
    let mut guest = machine(|_| {});
    guest.set(Reg::Rflags, 0x202);
    guest.vcpu.queue_interrupt(0x40).expect("nothing is queued");
    guest.vcpu.inject_nmi();
    guest.vcpu.inject_exception(6, None);
    // Each handler is interrupted before its first instruction, but for IF.
    assert_eq!(vector(&mut guest), 2);
    assert_eq!(stacked(&guest, 0), HANDLERS + 0x60);
    assert_eq!(guest.vcpu.queued_interrupt(), Some(0x40));
    guest.set(Reg::Rflags, 0x202);
    assert_eq!(vector(&mut guest), 0x40);
}

#[test]
fn traps_that_a_load_of_ss_holds_back_survive_the_host() {
    let mut guest = machine(|a| a.inc(ebx).unwrap());
    let events = Events { shadow: Shadow::MovSs, debug_traps: 1, ..Events::default() };
    guest.vcpu.set_events(&events);
    assert_eq!(vector(&mut guest), 1);
    assert_eq!((guest.gpr(Gpr::Rbx), guest.vcpu.reg(Reg::Dr6)), (1, 0xFFFF_0FF1));
}

#[test]
fn an_iret_that_faults_unblocks_nmis() {
    let mut guest = machine(|a| {
        a.push(0).unwrap();
        a.push(0).unwrap();
        a.push(0).unwrap();
        a.iretd().unwrap();
    });
    guest.vcpu.set_events(&Events { nmi_blocked: true, ..Events::default() });
    assert_eq!(vector(&mut guest), 13);
    assert!(!guest.vcpu.events().nmi_blocked);
}

#[test]
fn a_blocked_nmi_waits() {
    let mut guest = machine(|a| {
        a.nop().unwrap();
        a.hlt().unwrap();
    });
    guest.vcpu.inject_nmi();
    guest.vcpu.set_events(&Events { nmi_blocked: true, nmi_pending: true, ..Events::default() });
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.rip(), START + 2);
    assert!(guest.vcpu.events().nmi_pending);
}

#[test]
fn a_full_inner_stack_is_named_in_the_error_code() {
    for (software, code) in [(true, SHORT_STACK), (false, SHORT_STACK | 1)] {
        let mut guest = user(|a| a.int(0x40).unwrap());
        guest.write_u64(IDT + 0x40 * 8, gate(CODE, HANDLERS as u32, 0xEE, 0));
        guest.write_u64(TSS + 4, 8 | u64::from(SHORT_STACK) << 32);
        to_task(&mut guest, 12);
        if !software {
            guest.set(Reg::Rflags, 0x202);
            guest.vcpu.queue_interrupt(0x40).expect("nothing is queued");
        }
        assert_eq!(guest.run(), Exit::Hlt);
        assert_eq!(stacked(&guest, 0), u64::from(code));
        assert_eq!(guest.read::<4>(TSS + 0x20), (USER as u32).to_le_bytes(), "nothing happened");
    }
}

#[test]
fn a_full_inner_stack_of_a_call_gate_is_named_too() {
    let mut guest = user(|a| {
        a.db(&[0x9A, 0, 0, 0, 0, CALL_GATE as u8 | 3, 0]).unwrap();
    });
    guest.write_u64(TSS + 4, 8 | u64::from(SHORT_STACK) << 32);
    to_task(&mut guest, 12);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(stacked(&guest, 0), u64::from(SHORT_STACK));
}

#[test]
fn violations_without_a_segment_show_only_ext() {
    // The present stack is full.
    for (software, code) in [(true, 0), (false, 1)] {
        let mut guest = machine(|a| a.int(0x40).unwrap());
        guest.set(Reg::Segment(SegReg::Ss, SegField::Limit), 0xFF);
        to_task(&mut guest, 12);
        if !software {
            guest.set(Reg::Rflags, 0x202);
            guest.vcpu.queue_interrupt(0x40).expect("nothing is queued");
        }
        assert_eq!(guest.run(), Exit::Hlt);
        assert_eq!(stacked(&guest, 0), code);
    }
    // The gate's offset is beyond its code segment.
    for (software, code) in [(true, 0), (false, 1)] {
        let mut guest = machine(|a| a.int(0x40).unwrap());
        guest.write_u64(IDT + 0x40 * 8, gate(SHORT_CODE, 0x1000, 0x8E, 0));
        if !software {
            guest.set(Reg::Rflags, 0x202);
            guest.vcpu.queue_interrupt(0x40).expect("nothing is queued");
        }
        assert_eq!(vector(&mut guest), 13);
        assert_eq!(stacked(&guest, 0), code);
    }
}

#[test]
fn sti_and_loads_of_ss_hold_back_interrupts_and_nmis_for_one_instruction() {
    type Program = fn(&mut CodeAssembler);
    let sti: Program = |a| a.sti().unwrap();
    let mov_ss: Program = |a| a.mov(ss, eax).unwrap();
    let pop_ss: Program = |a| {
        a.push(eax).unwrap();
        a.pop(ss).unwrap();
    };
    let lss: Program = |a| a.db(&[0x0F, 0xB2, 0x23]).unwrap();
    // The instruction, IF before it, whether the INC behind it is executed first.
    for (number, (program, flags, held_back)) in [
        (sti, 2, true),
        (sti, 0x202, false),
        (mov_ss, 0x202, true),
        (pop_ss, 0x202, true),
        (lss, 0x202, false),
    ]
    .into_iter()
    .enumerate()
    {
        for nmi in [false, true] {
            let mut guest = machine(|a| {
                program(a);
                a.inc(ecx).unwrap();
                a.inc(ecx).unwrap();
                a.hlt().unwrap();
            });
            guest.set(Reg::Rflags, flags);
            guest.set_gpr(Gpr::Rax, u64::from(DATA));
            guest.set_gpr(Gpr::Rbx, 0xB000);
            guest.load(0xB000, &[0, 0x10, 0, 0, DATA as u8, 0]);
            // Up to the instruction, so that the event arrives with its shadow.
            let until = if number == 3 { 2 } else { 1 };
            for _ in 0..until {
                assert_eq!(guest.vcpu.step(), None);
            }
            if nmi {
                guest.vcpu.inject_nmi();
            } else {
                guest.vcpu.queue_interrupt(0x40).expect("nothing is queued");
            }
            assert_eq!(vector(&mut guest), if nmi { 2 } else { 0x40 });
            assert_eq!(guest.gpr(Gpr::Rcx), u64::from(held_back), "case {number}");
        }
    }
}
