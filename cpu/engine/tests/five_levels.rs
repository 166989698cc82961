//! CR4.LA57: five-level paging, and which addresses are canonical.

mod guest;
mod rings;

use cpu_defs::{Gpr, Reg, cr4};
use cpu_engine::Personality;
use guest::{Guest, PML4, descriptor};
use iced_x86::code_asm::*;
use rings::{GDT, exception, supervisor};

const GP: u64 = 13;
const PML5: u64 = 0x10_8000;
/// Canonical in 57 bits only.
const HIGH: u64 = 0x00F0_0000_0000_0000;
const LSTAR: u32 = 0xC000_0082;

/// Five levels; the last entry of the PML5E range that HIGH needs leads to the same PML4.
fn five_levels(program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = supervisor(cr4::LA57, program);
    guest.write_u64(PML5, PML4 | 7);
    guest.write_u64(PML5 + (HIGH >> 48) * 8, PML4 | 7);
    guest.set(Reg::Cr3, PML5);
    guest
}

#[test]
fn an_address_of_57_bits_is_translated_by_five_levels() {
    let program = |a: &mut CodeAssembler| {
        a.mov(rdx, qword_ptr(rsi)).unwrap();
        a.hlt().unwrap();
    };
    let mut guest = five_levels(program);
    guest.set_gpr(Gpr::Rsi, HIGH + 0x3000);
    guest.write_u64(0x3000, 0x1234);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rdx), 0x1234);
    let mut guest = supervisor(0, program);
    guest.set_gpr(Gpr::Rsi, HIGH + 0x3000);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((GP, 0)));
}

#[test]
fn code_runs_at_57_bits() {
    let mut guest = five_levels(|a| {
        a.call(rsi).unwrap();
        a.hlt().unwrap();
    });
    guest.load(0x3000, &[0x90, 0xC3]);
    guest.set_gpr(Gpr::Rsi, HIGH + 0x3000);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), None);
}

#[test]
fn msrs_and_table_bases_take_57_bits_in_either_mode() {
    let program = |a: &mut CodeAssembler| {
        a.mov(rax, HIGH).unwrap();
        a.mov(rdx, rax).unwrap();
        a.shr(rdx, 32).unwrap();
        a.mov(ecx, LSTAR).unwrap();
        a.wrmsr().unwrap();
        a.lgdt(fword_ptr(rsi)).unwrap();
        a.hlt().unwrap();
    };
    for start in [supervisor as fn(u64, _) -> Guest, |_, program| five_levels(program)] {
        let mut guest = start(0, program);
        guest.set_gpr(Gpr::Rsi, 0x3000);
        guest.write_u64(0x3002, HIGH);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), None);
    }
    let mut guest = supervisor(0, program);
    let mut narrow = cpu_engine::supported_cpuid();
    narrow.iter_mut().filter(|entry| entry.function == 7).for_each(|entry| entry.ecx = 0);
    guest.vcpu.set_cpuid(narrow);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((GP, 0)));
}

#[test]
fn wrfsbase_takes_57_bits_in_four_levels_only_on_intel() {
    let program = |a: &mut CodeAssembler| {
        a.mov(rax, HIGH).unwrap();
        a.wrfsbase(rax).unwrap();
        a.hlt().unwrap();
    };
    for (personality, five, expected) in [
        (Personality::Amd, false, Some((GP, 0))),
        (Personality::Amd, true, None),
        (Personality::Intel, false, None),
        (Personality::Intel, true, None),
    ] {
        let mut guest = if five { five_levels(program) } else { supervisor(0, program) };
        guest.vcpu.set_cpuid(cpu_engine::supported_cpuid_as(personality));
        guest.set(Reg::Cr4, guest.vcpu.reg(Reg::Cr4) | cr4::FSGSBASE);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), expected, "{personality:?}, five levels: {five}");
    }
}

#[test]
fn la57_cannot_change_in_long_mode() {
    for (now, bits, refused) in
        [(0, cr4::LA57, true), (0, 0, false), (cr4::LA57, 0, true), (cr4::LA57, cr4::LA57, false)]
    {
        let program = |a: &mut CodeAssembler| {
            a.mov(rax, cr4::PAE | bits).unwrap();
            a.mov(cr4, rax).unwrap();
            a.hlt().unwrap();
        };
        let mut guest = if now == 0 { supervisor(0, program) } else { five_levels(program) };
        guest.run_to_hlt();
        assert_eq!(exception(&guest).is_some(), refused, "{now:#x} {bits:#x}");
    }
}

#[test]
fn the_last_canonical_byte_is_where_the_width_says() {
    for (start, last) in [
        (supervisor as fn(u64, _) -> Guest, (1_u64 << 47) - 1),
        (|_, program| five_levels(program), (1 << 56) - 1),
    ] {
        let mut guest = start(0, |a: &mut CodeAssembler| {
            a.mov(ax, word_ptr(rsi)).unwrap();
            a.hlt().unwrap();
        });
        guest.set_gpr(Gpr::Rsi, last);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), Some((GP, 0)));
    }
}

#[test]
fn an_ldt_or_tss_whose_base_is_not_canonical_is_refused() {
    const SELECTOR: u64 = 0x20;
    for (kind, opcode) in [(0x82, 0xD0), (0x89, 0xD8)] {
        for (base, refused) in [(HIGH, false), (1 << 60, true)] {
            let mut guest = supervisor(0, |a| a.db(&[0x0F, 0x00, opcode, 0xF4]).unwrap());
            guest.write_u64(GDT + SELECTOR, descriptor(0, 0xFFF, kind, 0));
            guest.write_u64(GDT + SELECTOR + 8, base >> 32);
            guest.set(Reg::Gdtr(cpu_defs::TableField::Limit), 0x2F);
            guest.set_gpr(Gpr::Rax, SELECTOR);
            guest.run_to_hlt();
            assert_eq!(exception(&guest), refused.then_some((GP, SELECTOR)), "{base:#x}");
        }
    }
}
