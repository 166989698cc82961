//! Debug registers: instruction, data and port breakpoints, single step, DR6.

mod guest;

use cpu_defs::{Gpr, Reg, SegField, SegReg, TableField};
use cpu_engine::{Exit, IoDirection, Personality, supported_cpuid_as};
use guest::{Guest, START, descriptor, gate};
use iced_x86::code_asm::*;

const GDT: u64 = 0x5000;
const IDT: u64 = 0x6000;
const HANDLER: u64 = 0x9000;
const DATA: u64 = 0xB000;

const TF: u64 = 1 << 8;
const RF: u64 = 1 << 16;
const DR6_NONE: u64 = 0xFFFF_0FF0;
const BD: u64 = 1 << 13;
const BS: u64 = 1 << 14;

/// R/W of DR7.
const EXECUTE: u64 = 0;
const WRITE: u64 = 1;
const PORT: u64 = 2;
const ACCESS: u64 = 3;

/// The value of DR7 that enables breakpoint 0 locally; `len` as encoded.
fn enable(rw: u64, len: u64) -> u64 {
    0x401 | rw << 16 | len << 18
}

/// The handler of #DB and of #GP halts, then returns. Kernel code, flat.
fn machine(program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = Guest::protected_mode(program);
    guest.set(Reg::Idtr(TableField::Base), IDT);
    guest.set(Reg::Idtr(TableField::Limit), 0x7FF);
    guest.write_u64(GDT + 8, descriptor(0, 0xF_FFFF, 0x9B, 0xC));
    guest.write_u64(GDT + 16, descriptor(0, 0xF_FFFF, 0x93, 0xC));
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), 0x17);
    for vector in [1, 13, 0x40] {
        let at = HANDLER + vector * 0x10;
        guest.load(at, &[0xF4, 0xCF]);
        guest.write_u64(IDT + vector * 8, gate(8, at as u32, 0x8E, 0));
    }
    guest
}

fn with_breakpoint(mut guest: Guest, address: u64, control: u64) -> Guest {
    guest.set(Reg::Dr0, address);
    guest.set(Reg::Dr7, control);
    guest
}

fn stacked(guest: &Guest, slot: u64) -> u64 {
    let at = guest.gpr(Gpr::Rsp) + slot * 4;
    u64::from(u32::from_le_bytes(guest.read(at)))
}

/// Runs into the handler of #DB; return address and DR6, which is reset.
fn next_trap(guest: &mut Guest) -> (u64, u64) {
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.rip(), HANDLER + 0x11, "not in the handler");
    let causes = guest.vcpu.reg(Reg::Dr6);
    guest.set(Reg::Dr6, DR6_NONE);
    (stacked(guest, 0), causes)
}

fn no_trap(guest: &mut Guest) {
    assert_eq!(guest.run(), Exit::Hlt);
    assert!(guest.rip() < GDT, "a trap at {:#x}", guest.rip());
}

#[test]
fn an_instruction_breakpoint_faults_before_it_and_rf_passes_it() {
    let program = |a: &mut CodeAssembler| {
        a.nop().unwrap();
        a.inc(ebx).unwrap();
        a.hlt().unwrap();
    };
    let mut guest = with_breakpoint(machine(program), START + 1, enable(EXECUTE, 0));
    assert_eq!(next_trap(&mut guest), (START + 1, DR6_NONE | 1));
    assert_eq!(guest.gpr(Gpr::Rbx), 0);
    assert_eq!(stacked(&guest, 2) & RF, 0, "the handler has to set RF");
    let flags_at = guest.gpr(Gpr::Rsp) + 8;
    guest.load(flags_at, &(2 | RF as u32).to_le_bytes());
    no_trap(&mut guest);
    assert_eq!(guest.gpr(Gpr::Rbx), 1);
    assert_eq!(guest.vcpu.reg(Reg::Rflags) & RF, 0);
}

#[test]
fn a_breakpoint_precedes_the_faults_of_its_instruction() {
    let mut guest = with_breakpoint(machine(|a| a.ud2().unwrap()), START, enable(EXECUTE, 0));
    assert_eq!(next_trap(&mut guest).0, START);
    let mut guest = with_breakpoint(machine(|_| {}), 0x40_0000, enable(EXECUTE, 0));
    guest.set(Reg::Rip, 0x40_0000);
    assert_eq!(next_trap(&mut guest).0, 0x40_0000, "where there is no memory to fetch from");
}

#[test]
fn disabled_breakpoints_do_nothing() {
    let mut guest = machine(|a| {
        a.mov(dword_ptr(DATA as u32), eax).unwrap();
        a.hlt().unwrap();
    });
    for reg in [Reg::Dr0, Reg::Dr1] {
        guest.set(reg, DATA);
    }
    guest.set(Reg::Dr7, 0x0011_0400);
    no_trap(&mut guest);
    assert_eq!(guest.vcpu.reg(Reg::Dr6), DR6_NONE);
}

#[test]
fn data_breakpoints_trap_by_kind_address_and_length() {
    let store = |a: &mut CodeAssembler| a.mov(dword_ptr(DATA as u32 + 4), eax).unwrap();
    let load = |a: &mut CodeAssembler| a.mov(eax, dword_ptr(DATA as u32 + 4)).unwrap();
    let add = |a: &mut CodeAssembler| a.add(dword_ptr(DATA as u32 + 4), 1).unwrap();
    // Code, address, R/W, LEN, whether it traps.
    type Program = fn(&mut CodeAssembler);
    let cases: [(Program, u64, u64, u64, bool); 12] = [
        (store, DATA + 4, WRITE, 3, true),
        (store, DATA + 4, ACCESS, 0, true),
        (store, DATA + 7, WRITE, 0, true),
        (store, DATA + 8, WRITE, 3, false),
        (store, DATA + 3, WRITE, 0, false),
        // The low bits that LEN covers are ignored.
        (store, DATA + 3, WRITE, 2, true),
        (store, DATA + 2, WRITE, 1, false),
        (load, DATA + 4, WRITE, 3, false),
        (load, DATA + 4, ACCESS, 3, true),
        (add, DATA + 4, WRITE, 3, true),
        (add, DATA + 4, ACCESS, 3, true),
        (load, START, ACCESS, 3, false),
    ];
    for (number, (program, address, rw, len, traps)) in cases.into_iter().enumerate() {
        // Once before, to have the page in the TLB.
        let mut guest = machine(|a| {
            a.mov(dword_ptr(DATA as u32 + 0x100), ecx).unwrap();
            a.mov(edx, dr7).unwrap();
            a.mov(esi, enable(rw, len) as u32).unwrap();
            a.mov(dr7, esi).unwrap();
            program(a);
            a.mov(edi, 0x77).unwrap();
            a.hlt().unwrap();
        });
        guest.set(Reg::Dr0, address);
        if traps {
            let (_, causes) = next_trap(&mut guest);
            assert_eq!(causes, DR6_NONE | 1, "case {number}");
            assert_eq!(guest.gpr(Gpr::Rdi), 0, "right after the access");
        } else {
            no_trap(&mut guest);
        }
        assert_eq!(guest.vcpu.reg(Reg::Dr7), enable(rw, len));
    }
}

#[test]
fn an_access_that_faults_reports_no_breakpoint() {
    // The pop reads the watched word, then its store is beyond the segment.
    let mut guest =
        with_breakpoint(machine(|a| a.pop(dword_ptr(0x2_0000)).unwrap()), START, enable(ACCESS, 3));
    guest.set(Reg::Segment(SegReg::Ds, SegField::Limit), 0xFFFF);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.rip(), HANDLER + 0xD1);
    assert_eq!(guest.vcpu.reg(Reg::Dr6), DR6_NONE);
}

#[test]
fn a_repeated_string_instruction_traps_in_each_matching_iteration() {
    let program = |a: &mut CodeAssembler| {
        a.mov(edi, DATA as u32).unwrap();
        a.mov(ecx, 4).unwrap();
        a.rep().stosd().unwrap();
        a.hlt().unwrap();
    };
    let mut guest = with_breakpoint(machine(program), DATA + 4, enable(WRITE, 3));
    let (rip, _) = next_trap(&mut guest);
    assert_eq!((rip, guest.gpr(Gpr::Rcx)), (START + 10, 2));
    assert_eq!(stacked(&guest, 2) & RF, RF, "more iterations follow");
    no_trap(&mut guest);
    let mut guest = with_breakpoint(machine(program), DATA + 12, enable(WRITE, 3));
    let (rip, _) = next_trap(&mut guest);
    assert_eq!((rip, guest.gpr(Gpr::Rcx)), (START + 12, 0));
    assert_eq!(stacked(&guest, 2) & RF, 0, "it was the last");
}

#[test]
fn port_breakpoints_need_cr4_de_and_trap_after_the_access() {
    let program = |a: &mut CodeAssembler| {
        a.out(0x80, al).unwrap();
        a.in_(al, 0x80).unwrap();
        a.nop().unwrap();
        a.hlt().unwrap();
    };
    let through = |guest: &mut Guest| {
        let Exit::Io(io) = guest.run() else { panic!("no port access") };
        let answer = if io.dir == IoDirection::In { vec![0x55] } else { vec![] };
        assert_eq!(guest.vcpu.complete(&answer), None);
    };
    let mut guest = with_breakpoint(machine(program), 0x80, enable(PORT, 0));
    through(&mut guest);
    through(&mut guest);
    no_trap(&mut guest);
    guest = with_breakpoint(machine(program), 0x80, enable(PORT, 0));
    guest.set(Reg::Cr4, 8);
    through(&mut guest);
    assert_eq!(next_trap(&mut guest), (START + 2, DR6_NONE | 1));
    through(&mut guest);
    assert_eq!(next_trap(&mut guest), (START + 4, DR6_NONE | 1));
    no_trap(&mut guest);
}

#[test]
fn single_step_and_a_breakpoint_are_one_exception() {
    let program = |a: &mut CodeAssembler| {
        a.mov(dword_ptr(DATA as u32), eax).unwrap();
        a.hlt().unwrap();
    };
    let mut guest = with_breakpoint(machine(program), DATA, enable(WRITE, 3));
    guest.set(Reg::Rflags, 2 | TF);
    let (rip, causes) = next_trap(&mut guest);
    assert_eq!(causes, DR6_NONE | BS | 1);
    assert_eq!(rip, START + 5);
}

#[test]
fn loading_ss_delays_the_traps_by_one_instruction() {
    let program = |a: &mut CodeAssembler| {
        a.mov(ss, word_ptr(DATA as u32)).unwrap();
        a.inc(ebx).unwrap();
        a.hlt().unwrap();
    };
    let mut guest = with_breakpoint(machine(program), DATA, enable(ACCESS, 1));
    guest.load(DATA, &[0x10, 0]);
    assert_eq!(next_trap(&mut guest).1, DR6_NONE | 1);
    assert_eq!(guest.gpr(Gpr::Rbx), 1);
    // A single step over it is one of the next instruction.
    let mut guest = machine(program);
    guest.load(DATA, &[0x10, 0]);
    guest.set(Reg::Rflags, 2 | TF);
    assert_eq!(next_trap(&mut guest).1, DR6_NONE | BS);
    assert_eq!(guest.gpr(Gpr::Rbx), 1);
}

#[test]
fn an_instruction_breakpoint_after_a_load_of_ss_is_lost_on_intel_processors() {
    let program = |a: &mut CodeAssembler| {
        a.mov(ss, eax).unwrap();
        a.inc(ebx).unwrap();
        a.hlt().unwrap();
    };
    for (personality, fires) in [(Personality::Intel, false), (Personality::Amd, true)] {
        let mut guest = with_breakpoint(machine(program), START + 2, enable(EXECUTE, 0));
        guest.vcpu.set_cpuid(supported_cpuid_as(personality));
        guest.set_gpr(Gpr::Rax, 0x10);
        if fires {
            assert_eq!(next_trap(&mut guest), (START + 2, DR6_NONE | 1));
        } else {
            no_trap(&mut guest);
        }
    }
}

#[test]
fn a_second_load_of_ss_delays_nothing() {
    let mut guest = machine(|a| {
        a.mov(ss, eax).unwrap();
        a.mov(ss, eax).unwrap();
        a.inc(ebx).unwrap();
    });
    guest.set_gpr(Gpr::Rax, 0x10);
    guest.set(Reg::Rflags, 2 | TF);
    assert_eq!(next_trap(&mut guest), (START + 4, DR6_NONE | BS));
}

#[test]
fn sti_does_not_delay_the_single_step_trap() {
    let mut guest = machine(|a| a.sti().unwrap());
    guest.set(Reg::Rflags, 2 | TF);
    assert_eq!(next_trap(&mut guest), (START + 1, DR6_NONE | BS));
}

#[test]
fn the_single_step_trap_comes_before_a_pending_interrupt() {
    let mut guest = machine(|a| {
        a.push(0x302).unwrap();
        a.popfd().unwrap();
        a.nop().unwrap();
    });
    guest.set(Reg::Rflags, 2 | TF);
    guest.vcpu.queue_interrupt(0x40).expect("nothing is queued");
    assert_eq!(next_trap(&mut guest).0, START + 5);
    assert_eq!(next_trap(&mut guest).0, START + 6, "POPFD lets the interrupt in");
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.rip(), HANDLER + 0x401);
}

#[test]
fn general_detect_faults_at_mov_dr() {
    let mut guest = machine(|a| {
        a.mov(eax, dr7).unwrap();
        a.hlt().unwrap();
    });
    guest.set(Reg::Dr7, 0x2400);
    assert_eq!(next_trap(&mut guest), (START, DR6_NONE | BD));
    assert_eq!(stacked(&guest, 2) & RF, RF, "a fault, unlike other #DB");
    assert_eq!(guest.vcpu.reg(Reg::Dr7), 0x400, "GD is off in the handler");
    no_trap(&mut guest);
}

#[test]
fn a_trap_replaces_the_breakpoint_bits_and_keeps_the_others() {
    let mut guest = with_breakpoint(
        machine(|a| a.mov(dword_ptr(DATA as u32), eax).unwrap()),
        DATA,
        enable(WRITE, 3),
    );
    guest.set(Reg::Dr6, DR6_NONE | BS | 0xE);
    assert_eq!(next_trap(&mut guest).1, DR6_NONE | BS | 1);
}

#[test]
fn int1_leaves_dr6_alone() {
    let mut guest = machine(|a| a.int1().unwrap());
    assert_eq!(next_trap(&mut guest), (START + 1, DR6_NONE));
}

#[test]
fn eight_byte_breakpoints_work_in_long_mode() {
    let mut guest = Guest::long_mode(|a| {
        a.mov(byte_ptr(DATA + 6), al).unwrap();
        a.hlt().unwrap();
    });
    guest.write_u64(GDT + 8, descriptor(0, 0xF_FFFF, 0x9B, 0xA));
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), 0xF);
    guest.set(Reg::Idtr(TableField::Base), IDT);
    guest.set(Reg::Idtr(TableField::Limit), 0xFFF);
    guest.load(IDT + 16, &guest::long_gate(8, HANDLER + 0x10, 0x8E, 0));
    guest.load(HANDLER + 0x10, &[0xF4]);
    let mut guest = with_breakpoint(guest, DATA, enable(WRITE, 2));
    assert_eq!(next_trap(&mut guest).1, DR6_NONE | 1);
}

#[test]
fn the_upper_halves_of_dr6_and_dr7_do_not_exist() {
    let mut guest = Guest::long_mode(|a| a.mov(dr7, rax).unwrap());
    guest.set_gpr(Gpr::Rax, 1 << 32);
    assert_eq!(guest.run(), Exit::Shutdown, "#GP without an IDT");
}
