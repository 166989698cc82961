//! Instructions exist by what the guest's CPUID announces.

mod guest;

use cpu_defs::{CpuidBit, CpuidEntry, CpuidReg, Gpr, Reg, TableField, cpuid_bit as bit};
use cpu_engine::{Exit, supported_cpuid};
use guest::{Guest, START, descriptor, gate};
use iced_x86::code_asm::*;

const IDT: u64 = 0x6000;
const GDT: u64 = 0x5000;
const UNDEFINED: u64 = 0x9000;

/// A guest whose #UD handler is HLT at [`UNDEFINED`], with this CPUID.
fn guest(cpuid: Vec<CpuidEntry>, program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = Guest::protected_mode(program);
    guest.vcpu.set_cpuid(cpuid);
    guest.set(Reg::Idtr(TableField::Base), IDT);
    guest.set(Reg::Idtr(TableField::Limit), 0x7FF);
    guest.write_u64(GDT + 8, descriptor(0, 0xF_FFFF, 0x9B, 0xC));
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), 0x17);
    guest.load(UNDEFINED, &[0xF4]);
    guest.write_u64(IDT + 6 * 8, gate(8, UNDEFINED as u32, 0x8E, 0));
    guest
}

fn ends_undefined(cpuid: Vec<CpuidEntry>, program: impl FnOnce(&mut CodeAssembler)) -> bool {
    let mut guest = guest(cpuid, program);
    assert_eq!(guest.run(), Exit::Hlt);
    guest.rip() == UNDEFINED + 1
}

/// The supported table without one bit.
fn without(bit: CpuidBit) -> Vec<CpuidEntry> {
    let (function, index, reg) = bit.word.position();
    let mut table = supported_cpuid();
    for entry in table.iter_mut().filter(|e| (e.function, e.index) == (function, index)) {
        let value = match reg {
            CpuidReg::Eax => &mut entry.eax,
            CpuidReg::Ebx => &mut entry.ebx,
            CpuidReg::Ecx => &mut entry.ecx,
            CpuidReg::Edx => &mut entry.edx,
        };
        *value &= !bit.mask();
    }
    table
}

fn cmovz(a: &mut CodeAssembler) {
    a.cmovz(eax, ebx).unwrap();
    a.hlt().unwrap();
}

#[test]
fn what_is_announced_executes_and_without_its_bit_is_undefined() {
    assert!(!ends_undefined(supported_cpuid(), cmovz));
    assert!(ends_undefined(without(bit::CMOV), cmovz));
}

#[test]
fn an_empty_table_hides_nothing() {
    assert!(!ends_undefined(Vec::new(), cmovz));
}

#[test]
fn instructions_of_other_processors_are_undefined() {
    // XOP, VMX, SVM and Padlock.
    for bytes in [
        &[0x8F, 0xE9, 0x78, 0x81, 0xC0][..],
        &[0x0F, 0x01, 0xC2],
        &[0x0F, 0x01, 0xD8],
        &[0x0F, 0xA7, 0xC0],
    ] {
        assert!(ends_undefined(supported_cpuid(), |a| a.db(bytes).unwrap()), "{bytes:x?}");
    }
}

#[test]
fn tzcnt_and_lzcnt_are_bsf_and_bsr_where_they_are_not_announced() {
    for (opcode, feature, scanned) in [(0xBC, bit::BMI1, 4), (0xBD, bit::LZCNT, 8)] {
        let code = [0xF3, 0x0F, opcode, 0xC3, 0xF4];
        let mut guest = guest(without(feature), |a| a.db(&code).unwrap());
        guest.set_gpr(Gpr::Rbx, 0x110);
        guest.run_to_hlt();
        assert_eq!((guest.gpr(Gpr::Rax), guest.rip()), (scanned, START + 5));
    }
}

#[test]
fn hints_do_nothing_whether_announced_or_not() {
    // ENDBR32, RDSSPD EAX, CLDEMOTE [0], PREFETCHW [0], a reserved NOP; then HLT.
    let code = [
        0xF3, 0x0F, 0x1E, 0xFB, 0xF3, 0x0F, 0x1E, 0xC8, 0x0F, 0x1C, 0x05, 0, 0, 0, 0, 0x0F, 0x0D,
        0x0D, 0, 0, 0, 0, 0x0F, 0x19, 0xC0, 0xF4,
    ];
    let mut guest = guest(supported_cpuid(), |a| a.db(&code).unwrap());
    guest.set_gpr(Gpr::Rax, 5);
    guest.run_to_hlt();
    assert_eq!((guest.gpr(Gpr::Rax), guest.rip()), (5, START + code.len() as u64));
}
