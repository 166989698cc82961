//! CLI, STI, PUSHF, POPF, CLD, STAC, CLAC and SWAPGS of 64-bit code, in each tier: what they change, the
//! shadow of STI, and accesses whose meaning they change.

mod guest;
mod rings;

use cpu_defs::{Gpr, Reg, SegField, SegReg, cr4, msr, rflags};
use cpu_engine::{Exit, Shadow};
use guest::{Guest, TIERS, each_tier, long_gate};
use iced_x86::code_asm::*;
use rings::{IDT, USER_PAGE, exception, supervisor, user};

const PF: u64 = 14;
const GP: u64 = 13;
/// In no page of RAM, but in the page tables.
const DEVICE: u64 = 0x1F_F000;
const DATA: u64 = 0xB000;
const VECTOR: u64 = 0x40;
const HANDLER: u64 = 0xE000;

/// A supervisor's program in each tier, with interrupts off.
fn each(program: impl Fn(&mut CodeAssembler), check: impl FnMut(&mut Guest)) {
    let make = || {
        let mut guest = supervisor(cr4::SMAP, &program);
        guest.set(Reg::Rflags, 2);
        guest.load(IDT + VECTOR * 16, &long_gate(8, HANDLER, 0x8E, 0));
        guest.load(HANDLER, &[0xF4]);
        guest
    };
    each_tier(make, check);
}

fn flags(guest: &Guest) -> u64 {
    guest.vcpu.reg(Reg::Rflags)
}

#[test]
fn flags_go_to_the_stack_and_come_back() {
    // IF, DF, AC, ID, NT, status flags; TF would be a trap.
    for pushed in
        [2, 0x202, 0xCD7, 0x8D5 | 2, 0x602, 0x4_0202, 0x20_0002, 0x4003, 0xFFFF_FFFF_0000_022A]
    {
        each(
            |a| {
                a.mov(rax, pushed).unwrap();
                a.push(rax).unwrap();
                a.popfq().unwrap();
                a.pushfq().unwrap();
                a.pop(rcx).unwrap();
                a.cmc().unwrap();
                a.pushfq().unwrap();
                a.cli().unwrap();
                a.cld().unwrap();
                a.pop(rdx).unwrap();
                a.pushfq().unwrap();
                a.pop(rsi).unwrap();
                a.hlt().unwrap();
            },
            |guest| {
                guest.run_to_hlt();
                let kept = pushed & 0x20_7ED5 | pushed & rflags::AC | 2;
                assert_eq!(guest.gpr(Gpr::Rcx), kept, "{pushed:#x}");
                assert_eq!(guest.gpr(Gpr::Rdx), kept ^ 1);
                assert_eq!(guest.gpr(Gpr::Rsi), (kept ^ 1) & !(rflags::IF | rflags::DF));
                assert_eq!(flags(guest), (kept ^ 1) & !(rflags::IF | rflags::DF));
            },
        );
    }
}

#[test]
fn a_direction_that_popf_or_cld_has_set_is_that_of_strings() {
    each(
        |a| {
            a.mov(rdi, DATA + 0x100).unwrap();
            a.mov(eax, 0x55).unwrap();
            a.push(0x402).unwrap();
            a.popfq().unwrap();
            a.stosb().unwrap();
            a.stosb().unwrap();
            a.cld().unwrap();
            a.stosb().unwrap();
            a.mov(rsi, rdi).unwrap();
            a.std().unwrap();
            a.lodsb().unwrap();
            a.cld().unwrap();
            a.hlt().unwrap();
        },
        |guest| {
            guest.run_to_hlt();
            assert_eq!(guest.read::<4>(DATA + 0xFE), [0x55, 0x55, 0x55, 0]);
            assert_eq!(guest.gpr(Gpr::Rdi), DATA + 0xFF);
            assert_eq!(guest.gpr(Gpr::Rsi), DATA + 0xFE);
        },
    );
}

#[test]
fn an_interrupt_that_waits_comes_behind_the_shadow_of_sti() {
    for (flags, executed) in [(2, 1), (0x202, 0)] {
        each(
            |a| {
                a.nop().unwrap();
                a.sti().unwrap();
                a.inc(ecx).unwrap();
                a.inc(ecx).unwrap();
                a.hlt().unwrap();
            },
            |guest| {
                guest.vcpu.queue_interrupt(VECTOR as u8).expect("nothing is queued");
                guest.set(Reg::Rflags, flags);
                guest.run_to_hlt();
                assert_eq!(guest.rip(), HANDLER + 1);
                assert_eq!(guest.gpr(Gpr::Rcx), executed);
            },
        );
    }
}

#[test]
fn an_interrupt_that_waits_comes_behind_popf() {
    each(
        |a| {
            a.push(0x202).unwrap();
            a.popfq().unwrap();
            a.inc(ecx).unwrap();
            a.hlt().unwrap();
        },
        |guest| {
            guest.vcpu.queue_interrupt(VECTOR as u8).expect("nothing is queued");
            guest.run_to_hlt();
            assert_eq!((guest.rip(), guest.gpr(Gpr::Rcx)), (HANDLER + 1, 0));
        },
    );
}

#[test]
fn the_window_opens_behind_the_shadow_of_sti() {
    each(
        |a| {
            a.sti().unwrap();
            a.inc(ecx).unwrap();
            a.inc(ecx).unwrap();
            a.hlt().unwrap();
        },
        |guest| {
            assert_eq!(guest.vcpu.run(true), Exit::InterruptWindow);
            assert_eq!(guest.gpr(Gpr::Rcx), 1);
        },
    );
}

#[test]
fn an_exit_in_the_shadow_of_sti_shows_it() {
    each(
        |a| {
            a.sti().unwrap();
            a.mov(rax, qword_ptr(rdi)).unwrap();
            a.inc(ecx).unwrap();
            a.hlt().unwrap();
        },
        |guest| {
            guest.set_gpr(Gpr::Rdi, DEVICE + (1 << 21));
            guest.write_u64(guest::PML4 + 0x2008, 0x20_0083);
            assert!(matches!(guest.run(), Exit::Mmio(_)));
            assert_eq!(guest.vcpu.events().shadow, Shadow::Sti);
            assert_eq!(flags(guest) & rflags::IF, rflags::IF);
            assert_eq!(guest.vcpu.complete(&[7; 8]), None);
            assert_eq!(guest.vcpu.events().shadow, Shadow::None);
            guest.run_to_hlt();
            assert_eq!((guest.gpr(Gpr::Rcx), guest.gpr(Gpr::Rax) as u8), (1, 7));
        },
    );
}

#[test]
fn a_shadow_ends_with_the_instruction_or_its_fault() {
    each(
        |a| {
            a.sti().unwrap();
            a.add(qword_ptr(rdi), rax).unwrap();
            a.out(0x10, al).unwrap();
            a.cli().unwrap();
            a.mov(edi, 0).unwrap();
            a.sti().unwrap();
            a.mov(qword_ptr(rbx), rax).unwrap();
            a.hlt().unwrap();
        },
        |guest| {
            guest.set_gpr(Gpr::Rdi, DATA);
            assert!(matches!(guest.run(), Exit::Io(_)));
            assert_eq!(guest.vcpu.events().shadow, Shadow::None);
            assert_eq!(guest.vcpu.complete(&[]), None);
            guest.run_to_hlt();
            assert_eq!(exception(guest), Some((PF, 3)));
            assert_eq!(guest.vcpu.events().shadow, Shadow::None);
            assert_eq!(guest.read_u64(guest.gpr(Gpr::Rsp) + 24) & rflags::IF, rflags::IF);
        },
    );
}

#[test]
fn an_interrupt_that_the_shadow_held_back_comes_at_the_handler_of_a_fault() {
    each(
        |a| {
            a.sti().unwrap();
            a.mov(qword_ptr(rbx), rax).unwrap();
            a.hlt().unwrap();
        },
        |guest| {
            let handler = 0xF000;
            guest.load(IDT + PF * 16, &long_gate(8, handler, 0x8F, 0));
            guest.load(handler, &[0xF4]);
            guest.vcpu.queue_interrupt(VECTOR as u8).expect("nothing is queued");
            guest.run_to_hlt();
            assert_eq!(guest.rip(), HANDLER + 1);
            assert_eq!(guest.read_u64(guest.gpr(Gpr::Rsp)), handler);
        },
    );
}

#[test]
fn accesses_around_clac_share_no_look() {
    each(
        |a| {
            a.stac().unwrap();
            a.stac().unwrap();
            a.mov(rax, qword_ptr(rbx)).unwrap();
            a.mov(qword_ptr(rbx + 8), rax).unwrap();
            a.mov(qword_ptr(rsp - 8), rax).unwrap();
            a.clac().unwrap();
            a.clac().unwrap();
            a.mov(rdx, qword_ptr(rsp - 8)).unwrap();
            a.mov(rcx, qword_ptr(rbx)).unwrap();
            a.hlt().unwrap();
        },
        |guest| {
            guest.run_to_hlt();
            assert_eq!(exception(guest), Some((PF, 1)));
            assert_eq!(guest.gpr(Gpr::Rcx), 0);
            assert_eq!(guest.gpr(Gpr::Rdx), 0x1122_3344_5566_7788);
            assert_eq!(guest.read_u64(USER_PAGE + 8), 0x1122_3344_5566_7788);
        },
    );
}

#[test]
fn accesses_around_swapgs_share_no_look() {
    each(
        |a| {
            a.mov(rax, qword_ptr(0).gs()).unwrap();
            a.mov(rcx, qword_ptr(8).gs()).unwrap();
            a.swapgs().unwrap();
            a.mov(rdx, qword_ptr(0).gs()).unwrap();
            a.mov(qword_ptr(8).gs(), rcx).unwrap();
            a.swapgs().unwrap();
            a.mov(qword_ptr(0).gs(), rdx).unwrap();
            a.swapgs().unwrap();
            a.hlt().unwrap();
        },
        |guest| {
            guest.set(Reg::Segment(SegReg::Gs, SegField::Base), DATA);
            guest.vcpu.set_msr(msr::KERNEL_GS_BASE, DATA + 0x800).expect("it is canonical");
            for (at, value) in [(0, 1), (8, 2), (0x800, 3), (0x808, 4)] {
                guest.write_u64(DATA + at, value);
            }
            guest.run_to_hlt();
            let gprs = [Gpr::Rax, Gpr::Rcx, Gpr::Rdx].map(|gpr| guest.gpr(gpr));
            assert_eq!(gprs, [1, 2, 3]);
            assert_eq!([0, 8, 0x800, 0x808].map(|at| guest.read_u64(DATA + at)), [3, 2, 3, 2]);
            assert_eq!(guest.vcpu.reg(Reg::Segment(SegReg::Gs, SegField::Base)), DATA + 0x800);
            assert_eq!(guest.vcpu.msr(msr::KERNEL_GS_BASE), Ok(DATA));
        },
    );
}

#[test]
fn user_code_is_refused() {
    for code in [&[0xFA][..], &[0xFB], &[0x0F, 0x01, 0xF8]] {
        for tier in TIERS {
            let mut guest = user(0, |a| a.db(code).unwrap());
            tier(&mut guest);
            guest.run_to_hlt();
            assert_eq!(exception(&guest), Some((GP, 0)), "{code:x?}");
        }
    }
}

#[test]
fn pairs_of_words_are_compared_and_exchanged_where_they_are_aligned() {
    for (at, locked, fails) in
        [(0, false, false), (0, true, false), (16, true, true), (8, false, false)]
    {
        each(
            |a| {
                a.mov(rax, qword_ptr(rdi)).unwrap();
                if locked {
                    a.lock().cmpxchg16b(xmmword_ptr(rdi)).unwrap();
                } else {
                    a.cmpxchg16b(xmmword_ptr(rdi)).unwrap();
                }
                a.pushfq().unwrap();
                a.pop(rsi).unwrap();
                a.hlt().unwrap();
            },
            |guest| {
                let words = [(Gpr::Rdi, DATA + at), (Gpr::Rdx, 2), (Gpr::Rbx, 5), (Gpr::Rcx, 6)];
                words.into_iter().for_each(|(gpr, value)| guest.set_gpr(gpr, value));
                guest.write_u64(DATA + at, 1);
                guest.write_u64(DATA + at + 8, if fails { 3 } else { 2 });
                guest.run_to_hlt();
                if at % 16 != 0 {
                    assert_eq!(exception(guest), Some((GP, 0)));
                    return;
                }
                let memory = [0, 8].map(|word| guest.read_u64(DATA + at + word));
                assert_eq!(memory, if fails { [1, 3] } else { [5, 6] });
                assert_eq!(guest.gpr(Gpr::Rsi) & rflags::ZF != 0, !fails);
                assert_eq!(guest.gpr(Gpr::Rdx), if fails { 3 } else { 2 });
            },
        );
    }
}
