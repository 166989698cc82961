//! SMEP, SMAP and UMIP: what keeps supervisor code from user pages, and user code from the
//! addresses of system tables.

mod guest;
mod rings;

use cpu_defs::{Gpr, Reg, cr4};
use cpu_engine::{CpuidEntry, supported_cpuid};
use guest::{START, descriptor};
use iced_x86::code_asm::*;
use rings::{IDT, USER_PAGE, exception, supervisor, user};

const UD: u64 = 6;
const GP: u64 = 13;
const PF: u64 = 14;

#[test]
fn smap_refuses_supervisor_reads_of_user_pages() {
    let mut guest = supervisor(cr4::SMAP, |a| {
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.hlt().unwrap();
    });
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((PF, 1)));
    assert_eq!(guest.vcpu.reg(Reg::Cr2), USER_PAGE);
}

#[test]
fn smap_refuses_supervisor_writes_to_user_pages() {
    let mut guest = supervisor(cr4::SMAP, |a| {
        a.mov(qword_ptr(rbx), rax).unwrap();
        a.hlt().unwrap();
    });
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((PF, 3)));
}

#[test]
fn stac_lets_the_supervisor_at_user_pages_and_clac_takes_it_back() {
    let mut guest = supervisor(cr4::SMAP, |a| {
        a.stac().unwrap();
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.mov(qword_ptr(rbx), rsi).unwrap();
        a.clac().unwrap();
        a.mov(rcx, qword_ptr(rbx)).unwrap();
        a.hlt().unwrap();
    });
    guest.set_gpr(Gpr::Rsi, 7);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((PF, 1)));
    assert_eq!(guest.gpr(Gpr::Rax), 0x1122_3344_5566_7788);
    assert_eq!(guest.read_u64(USER_PAGE), 7);
}

#[test]
fn popf_changes_ac_for_smap_at_once() {
    let mut guest = supervisor(cr4::SMAP, |a| {
        a.push(0x40002).unwrap();
        a.popfq().unwrap();
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.push(2).unwrap();
        a.popfq().unwrap();
        a.mov(rcx, qword_ptr(rbx)).unwrap();
        a.hlt().unwrap();
    });
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((PF, 1)));
    assert_eq!(guest.gpr(Gpr::Rax), 0x1122_3344_5566_7788);
}

#[test]
fn smap_ignores_ac_for_descriptor_tables() {
    let mut guest = supervisor(cr4::SMAP, |a| {
        a.stac().unwrap();
        a.mov(eax, 8).unwrap();
        a.mov(ds, eax).unwrap();
        a.hlt().unwrap();
    });
    guest.set(Reg::Gdtr(cpu_defs::TableField::Base), USER_PAGE);
    guest.set(Reg::Idtr(cpu_defs::TableField::Base), IDT);
    guest.write_u64(USER_PAGE + 8, descriptor(0, 0xF_FFFF, 0x93, 0xC));
    // The exception needs the GDT as well: what remains is a triple fault.
    assert_eq!(guest.run(), cpu_engine::Exit::Shutdown);
    assert_eq!(guest.vcpu.reg(Reg::Cr2), USER_PAGE + 8);
}

#[test]
fn smep_refuses_supervisor_fetches_from_user_pages() {
    let mut guest = supervisor(cr4::SMEP, |a| a.jmp(rbx).unwrap());
    guest.load(USER_PAGE, &[0xF4]);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((PF, 0x11)));
    assert_eq!(guest.vcpu.reg(Reg::Cr2), USER_PAGE);
}

#[test]
fn a_page_executed_before_smep_is_refused_after_it() {
    let mut guest = supervisor(0, |a| {
        a.call(rbx).unwrap();
        a.mov(rax, cr4).unwrap();
        a.or(eax, cr4::SMEP as i32).unwrap();
        a.mov(cr4, rax).unwrap();
        a.call(rbx).unwrap();
        a.hlt().unwrap();
    });
    guest.load(USER_PAGE, &[0xC3]);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((PF, 0x11)));
}

#[test]
fn user_code_cannot_execute_clac_and_stac() {
    for opcode in [0xCA, 0xCB] {
        let mut guest = user(cr4::SMAP, |a| a.db(&[0x0F, 0x01, opcode]).unwrap());
        guest.run_to_hlt();
        assert_eq!(exception(&guest).map(|found| found.0), Some(UD));
    }
}

/// The instructions that UMIP is about, and SLDT and STR with their 0F 00 opcode.
const REVEALING: [&[u8]; 6] = [
    &[0x0F, 0x01, 0x44, 0x24, 0xE0], // sgdt [rsp-0x20]
    &[0x0F, 0x01, 0x4C, 0x24, 0xE0], // sidt [rsp-0x20]
    &[0x0F, 0x00, 0xC0],             // sldt eax
    &[0x0F, 0x00, 0xC8],             // str eax
    &[0x0F, 0x01, 0xE0],             // smsw eax
    &[0x0F, 0x01, 0x64, 0x24, 0xE0], // smsw [rsp-0x20]
];

#[test]
fn umip_keeps_system_addresses_from_user_code() {
    for code in REVEALING {
        let mut guest = user(cr4::UMIP, |a| a.db(code).unwrap());
        guest.set_gpr(Gpr::Rsp, USER_PAGE + 0x800);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), Some((GP, 0)), "{code:x?}");
    }
}

#[test]
fn supervisor_code_reads_them_with_umip() {
    for code in REVEALING {
        let mut guest = supervisor(cr4::UMIP, |a| {
            a.db(code).unwrap();
            a.hlt().unwrap();
        });
        guest.run_to_hlt();
        assert_eq!(guest.rip(), START + code.len() as u64 + 1, "{code:x?}");
    }
}

#[test]
fn cr4_has_only_the_bits_that_cpuid_announces() {
    let bits = [cr4::SMEP, cr4::SMAP, cr4::UMIP];
    for bit in bits {
        let mut guest = supervisor(0, |a| {
            a.mov(rax, cr4::PAE | bit).unwrap();
            a.mov(cr4, rax).unwrap();
            a.hlt().unwrap();
        });
        let hidden: Vec<CpuidEntry> =
            supported_cpuid().into_iter().filter(|entry| entry.function != 7).collect();
        guest.vcpu.set_cpuid(hidden);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), Some((GP, 0)), "{bit:#x}");
        assert!(guest.vcpu.set_reg(Reg::Cr4, cr4::PAE | bit).is_err(), "{bit:#x}");
    }
}
