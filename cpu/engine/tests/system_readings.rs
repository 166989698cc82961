//! RDTSC, RDTSCP, RDPKRU, and MOV from segment and control registers of 64-bit code, in each tier.

mod guest;
mod rings;

use cpu_defs::{Gpr, Reg, SegField, SegReg, cr4, msr};
use guest::{Guest, each_tier};
use iced_x86::code_asm::*;
use rings::{exception, supervisor, user};

const UD: u64 = 6;
const GP: u64 = 13;

fn read_counters(a: &mut CodeAssembler) {
    a.mov(rax, -1i64).unwrap();
    a.mov(rdx, -1i64).unwrap();
    a.rdtsc().unwrap();
    a.mov(rsi, rax).unwrap();
    a.mov(rdi, rdx).unwrap();
    a.mov(rcx, -1i64).unwrap();
    a.rdtscp().unwrap();
    a.hlt().unwrap();
}

fn counters(guest: &Guest) -> [u64; 2] {
    [(Gpr::Rsi, Gpr::Rdi), (Gpr::Rax, Gpr::Rdx)].map(|(low, high)| {
        let (low, high) = (guest.gpr(low), guest.gpr(high));
        assert!(low >> 32 == 0 && high >> 32 == 0, "{low:#x} {high:#x}");
        high << 32 | low
    })
}

#[test]
fn the_counter_is_the_vcpus_own() {
    const AHEAD: u64 = 0x1234_5678_0000_0000;
    // The host's frequency, and one that has to be scaled.
    for khz in [None, Some(123_456)] {
        let make = || supervisor(0, read_counters);
        each_tier(make, |guest| {
            if let Some(khz) = khz {
                guest.vcpu.set_tsc_khz(khz);
            }
            let offset = guest.vcpu.tsc_offset().wrapping_add(AHEAD);
            guest.vcpu.set_tsc_offset(offset);
            guest.vcpu.set_msr(msr::TSC_AUX, 0x8765_4321).expect("it has 32 bits");
            let now = |guest: &Guest| guest.vcpu.msr(msr::IA32_TSC).expect("it is there");
            let before = now(guest);
            guest.run_to_hlt();
            let [first, second] = counters(guest);
            let behind = now(guest);
            assert!(before <= first && first <= second && second <= behind, "{khz:?}");
            assert!(before >= AHEAD);
            assert_eq!(guest.gpr(Gpr::Rcx), 0x8765_4321);
        });
    }
}

#[test]
fn the_counter_can_be_withheld_from_user_code() {
    each_tier(
        || user(cr4::TSD, read_counters),
        |guest| {
            guest.run_to_hlt();
            assert_eq!(exception(guest), Some((GP, 0)));
            assert_eq!(guest.gpr(Gpr::Rax), u64::MAX);
        },
    );
    each_tier(
        || supervisor(cr4::TSD, read_counters),
        |guest| {
            guest.run_to_hlt();
            counters(guest);
        },
    );
    each_tier(
        || user(0, read_counters),
        |guest| {
            guest.run_to_hlt();
            counters(guest);
            assert_eq!(exception(guest), Some((GP, 0)), "HLT");
        },
    );
}

#[test]
fn a_counter_that_the_guest_sets_goes_on_from_there() {
    let program = |a: &mut CodeAssembler| {
        a.mov(ecx, msr::IA32_TSC).unwrap();
        a.mov(eax, 0x10).unwrap();
        a.mov(edx, 0x7000_0000).unwrap();
        a.wrmsr().unwrap();
        a.rdtsc().unwrap();
        a.hlt().unwrap();
    };
    each_tier(
        || supervisor(0, program),
        |guest| {
            guest.run_to_hlt();
            assert_eq!(guest.gpr(Gpr::Rdx), 0x7000_0000);
        },
    );
}

#[test]
fn rights_of_keys_are_read_where_there_are_keys_and_rcx_is_0() {
    for (bits, index, expected) in [
        (cr4::PKE, 0_i64, None),
        (cr4::PKE, 1, Some(GP)),
        (cr4::PKE, 1 << 32, None),
        (0, 0, Some(UD)),
    ] {
        let program = |a: &mut CodeAssembler| {
            if bits != 0 {
                a.mov(eax, 0x8000_0001_u32).unwrap();
                a.xor(ecx, ecx).unwrap();
                a.xor(edx, edx).unwrap();
                a.wrpkru().unwrap();
            }
            a.mov(rax, -1i64).unwrap();
            a.mov(rdx, -1i64).unwrap();
            a.mov(rcx, index).unwrap();
            a.rdpkru().unwrap();
            a.hlt().unwrap();
        };
        for ring in [0, 3] {
            let make = || if ring == 0 { supervisor(bits, program) } else { user(bits, program) };
            each_tier(make, |guest| {
                guest.run_to_hlt();
                let vector = exception(guest).map(|(vector, _)| vector);
                let read = [Gpr::Rax, Gpr::Rdx].map(|gpr| guest.gpr(gpr));
                match expected {
                    None => assert_eq!(read, [0x8000_0001, 0]),
                    Some(_) => assert_eq!((vector, read), (expected, [u64::MAX; 2])),
                }
            });
        }
    }
}

#[test]
fn selectors_are_read_into_every_register() {
    let program = |a: &mut CodeAssembler| {
        for register in [rax, r9, r10, r15] {
            a.mov(register, -1i64).unwrap();
        }
        a.stc().unwrap();
        a.mov(rax, fs).unwrap();
        a.mov(r9d, gs).unwrap();
        a.mov(r10, ds).unwrap();
        a.mov(r15d, cs).unwrap();
        a.mov(rbp, -1i64).unwrap();
        a.mov(bp, es).unwrap();
        a.mov(r11, -1i64).unwrap();
        a.mov(r11w, gs).unwrap();
        a.mov(r8, -1i64).unwrap();
        a.mov(r8w, fs).unwrap();
        a.mov(edi, ss).unwrap();
        a.setc(dl).unwrap();
        a.hlt().unwrap();
    };
    each_tier(
        || supervisor(0, program),
        |guest| {
            for (segment, selector) in
                [(SegReg::Fs, 0x28), (SegReg::Gs, 0xFFFF), (SegReg::Ds, 0x8001), (SegReg::Es, 0)]
            {
                guest.set(Reg::Segment(segment, SegField::Selector), selector);
            }
            guest.set_gpr(Gpr::Rdx, 0);
            let [code, stack] = [SegReg::Cs, SegReg::Ss]
                .map(|segment| guest.vcpu.reg(Reg::Segment(segment, SegField::Selector)));
            guest.run_to_hlt();
            let wide = [Gpr::Rax, Gpr::R9, Gpr::R10, Gpr::R15, Gpr::Rdi];
            assert_eq!(wide.map(|gpr| guest.gpr(gpr)), [0x28, 0xFFFF, 0x8001, code, stack]);
            let words = [Gpr::Rbp, Gpr::R11, Gpr::R8].map(|gpr| guest.gpr(gpr));
            assert_eq!(words, [!0xFFFF, u64::MAX, !0xFFFF | 0x28]);
            assert_eq!(guest.gpr(Gpr::Rdx), 1);
        },
    );
}

#[test]
fn control_registers_are_read_at_cpl_0_only() {
    let program = |a: &mut CodeAssembler| {
        a.mov(rax, cr0).unwrap();
        a.mov(r11, cr2).unwrap();
        a.mov(rsi, cr3).unwrap();
        a.mov(r15, cr4).unwrap();
        a.mov(rbp, cr8).unwrap();
        a.hlt().unwrap();
    };
    each_tier(
        || supervisor(cr4::PKE | cr4::TSD, program),
        |guest| {
            guest.set(Reg::Cr2, 0x1234_5678_9ABC_DEF0);
            let control = [Reg::Cr0, Reg::Cr2, Reg::Cr3, Reg::Cr4, Reg::Cr8];
            let expected = control.map(|reg| guest.vcpu.reg(reg));
            guest.run_to_hlt();
            let registers = [Gpr::Rax, Gpr::R11, Gpr::Rsi, Gpr::R15, Gpr::Rbp];
            assert_eq!(registers.map(|register| guest.gpr(register)), expected);
        },
    );
    each_tier(
        || user(0, program),
        |guest| {
            guest.set_gpr(Gpr::Rax, 7);
            guest.run_to_hlt();
            assert_eq!((exception(guest), guest.gpr(Gpr::Rax)), (Some((GP, 0)), 7));
        },
    );
}
