//! PAE paging: when the four PDPTEs are read and checked, on an Intel and on an AMD processor.

mod guest;

use cpu_defs::{CpuidEntry, Gpr, Reg, cr4};
use cpu_engine::supported_cpuid;
use guest::{Guest, descriptor, gate};
use iced_x86::code_asm::*;

const GDT: u64 = 0x5000;
const IDT: u64 = 0x6000;
const HANDLERS: u64 = 0x9000;
const GP: u64 = 13;
const PF: u64 = 14;
/// Two page-directory-pointer tables, and the page directory that maps 2 MiB to itself.
const PDPT: u64 = 0x10_0000;
const OTHER_PDPT: u64 = 0x10_0020;
const DIRECTORY: u64 = 0x10_1000;
const OTHER_DIRECTORY: u64 = 0x10_2000;
const PRESENT: u64 = 1;
/// A reserved bit of a PDPTE.
const RESERVED: u64 = 1 << 5;
/// Linear address of the second PDPTE.
const SECOND: u32 = 0x4000_0000;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Vendor {
    Intel,
    Amd,
}

fn cpuid_of(vendor: Vendor) -> Vec<CpuidEntry> {
    let name = match vendor {
        Vendor::Intel => [0x756E_6547, 0x6C65_746E, 0x4965_6E69],
        Vendor::Amd => [0x6874_7541, 0x444D_4163, 0x6974_6E65],
    };
    let mut table = supported_cpuid();
    for entry in table.iter_mut().filter(|entry| entry.function & 0x7FFF_FFFF == 0) {
        [entry.ebx, entry.ecx, entry.edx] = name;
    }
    table
}

/// 32-bit code with PAE paging on; #GP and #PF halt.
fn pae(vendor: Vendor, program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = Guest::protected_mode(program);
    guest.vcpu.set_cpuid(cpuid_of(vendor));
    guest.write_u64(GDT + 8, descriptor(0, 0xF_FFFF, 0x9B, 0xC));
    guest.set(Reg::Gdtr(cpu_defs::TableField::Base), GDT);
    guest.set(Reg::Gdtr(cpu_defs::TableField::Limit), 0xF);
    guest.set(Reg::Idtr(cpu_defs::TableField::Base), IDT);
    guest.set(Reg::Idtr(cpu_defs::TableField::Limit), 0x7FF);
    for vector in [GP, PF] {
        guest.load(HANDLERS + vector * 16, &[0xF4]);
        guest.write_u64(IDT + vector * 8, gate(8, (HANDLERS + vector * 16) as u32, 0x8E, 0));
    }
    for table in [PDPT, OTHER_PDPT] {
        guest.write_u64(table, DIRECTORY | PRESENT);
        guest.write_u64(table + 8, DIRECTORY | PRESENT);
    }
    guest.write_u64(DIRECTORY, 0x83);
    guest.write_u64(OTHER_DIRECTORY, 0);
    guest.set(Reg::Cr3, PDPT);
    guest.set(Reg::Cr4, cr4::PAE);
    guest.set(Reg::Cr0, 0x8001_0011);
    guest
}

/// Vector and error code of the exception whose handler halted.
fn exception(guest: &Guest) -> Option<(u64, u64)> {
    let vector = guest.rip().checked_sub(HANDLERS + 1)? / 16;
    let code = guest.read_u64(guest.gpr(Gpr::Rsp)) & 0xFFFF_FFFF;
    (vector < 32).then_some((vector, code))
}

fn load_cr3(a: &mut CodeAssembler, value: u64) {
    a.mov(eax, value as u32).unwrap();
    a.mov(cr3, eax).unwrap();
}

#[test]
fn a_reserved_bit_is_refused_at_the_load_by_intel_and_found_by_the_walk_on_amd() {
    for (vendor, expected) in [(Vendor::Intel, (GP, 0)), (Vendor::Amd, (PF, 9))] {
        let mut guest = pae(vendor, |a| {
            load_cr3(a, OTHER_PDPT);
            a.mov(edx, dword_ptr(SECOND)).unwrap();
            a.hlt().unwrap();
        });
        guest.write_u64(OTHER_PDPT + 8, DIRECTORY | PRESENT | RESERVED);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), Some(expected), "{vendor:?}");
        let cr3_now = if vendor == Vendor::Intel { PDPT } else { OTHER_PDPT };
        assert_eq!(guest.vcpu.reg(Reg::Cr3), cr3_now, "{vendor:?}");
    }
}

#[test]
fn a_reserved_bit_of_an_absent_entry_is_ignored() {
    for vendor in [Vendor::Intel, Vendor::Amd] {
        let mut guest = pae(vendor, |a| {
            load_cr3(a, OTHER_PDPT);
            a.mov(edx, dword_ptr(SECOND)).unwrap();
        });
        guest.write_u64(OTHER_PDPT + 8, DIRECTORY | RESERVED);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), Some((PF, 0)), "{vendor:?}");
    }
}

/// Takes the second entry away, and then does `then` before it is used.
fn with_the_entry_gone(vendor: Vendor, then: impl FnOnce(&mut CodeAssembler)) -> bool {
    let mut guest = pae(vendor, |a| {
        a.mov(dword_ptr(PDPT as u32 + 8), 0).unwrap();
        then(a);
        a.mov(edx, dword_ptr(SECOND)).unwrap();
        a.hlt().unwrap();
    });
    guest.run_to_hlt();
    exception(&guest) == Some((PF, 0))
}

#[test]
fn intel_uses_the_entries_as_they_were_loaded() {
    assert!(!with_the_entry_gone(Vendor::Intel, |_| {}));
    assert!(with_the_entry_gone(Vendor::Amd, |_| {}));
    for vendor in [Vendor::Intel, Vendor::Amd] {
        assert!(with_the_entry_gone(vendor, |a| load_cr3(a, PDPT)));
    }
}

#[test]
fn changes_of_cr0_and_cr4_that_concern_paging_load_them() {
    let set_cr4 = |bits: u64| {
        move |a: &mut CodeAssembler| {
            a.mov(eax, (cr4::PAE | bits) as u32).unwrap();
            a.mov(cr4, eax).unwrap();
        }
    };
    let set_cr0 = |value: u32| {
        move |a: &mut CodeAssembler| {
            a.mov(eax, value).unwrap();
            a.mov(cr0, eax).unwrap();
        }
    };
    for bit in [cr4::PGE, cr4::PSE, cr4::SMEP] {
        assert!(with_the_entry_gone(Vendor::Intel, set_cr4(bit)), "CR4 {bit:#x}");
    }
    assert!(!with_the_entry_gone(Vendor::Intel, set_cr4(cr4::OSFXSR)));
    assert!(with_the_entry_gone(Vendor::Intel, set_cr0(0xC001_0011)), "CR0.CD");
    assert!(!with_the_entry_gone(Vendor::Intel, set_cr0(0x8001_0013)), "CR0.MP");
}

#[test]
fn entering_pae_paging_with_a_reserved_bit_is_refused_by_intel() {
    let mut guest = pae(Vendor::Intel, |a| {
        a.mov(eax, 0x8001_0011_u32).unwrap();
        a.mov(cr0, eax).unwrap();
        a.hlt().unwrap();
    });
    guest.set(Reg::Cr0, 0x11);
    guest.write_u64(PDPT + 24, RESERVED | PRESENT);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((GP, 0)));
    assert_eq!(guest.vcpu.reg(Reg::Cr0), 0x11);
}
