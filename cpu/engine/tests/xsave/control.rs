//! XGETBV, XSETBV, IA32_XSS, and what CPUID shows.

use std::arch::x86_64::__cpuid_count;

use cpu_defs::{CpuidEntry, Gpr, Reg, cr4, msr};
use cpu_engine::supported_cpuid;

use super::native::xgetbv;
use super::rings::{exception, supervisor, user};
use super::{components, components_len, guest, set_mask, state};

const XGETBV: [u8; 3] = [0x0F, 0x01, 0xD0];
const XSETBV: [u8; 3] = [0x0F, 0x01, 0xD1];
const CPUID: [u8; 2] = [0x0F, 0xA2];
const UD: u64 = 6;
const GP: u64 = 13;

#[test]
fn xsetbv_takes_what_is_consistent() {
    let avx = components() & 4 != 0;
    let avx512 = components() & 0xE0 != 0;
    for (value, legal) in [
        (1, true),
        (3, true),
        (7, avx),
        (0xE7, avx512),
        (0x201, true),
        (0, false),
        (2, false),
        (5, false),
        (0x27, false),
        (0xE3, false),
        (0xF, false),
        (1 << 63 | 1, false),
        (1 << 18 | 1, false),
    ] {
        let mut guest = guest(&XSETBV);
        guest.set(Reg::Xcr0, 1);
        set_mask(&mut guest, value);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), (!legal).then_some((GP, 0)), "{value:#x}");
        assert_eq!(guest.vcpu.reg(Reg::Xcr0), if legal { value } else { 1 }, "{value:#x}");
        assert_eq!(guest.vcpu.set_reg(Reg::Xcr0, value).is_ok(), legal);
    }
}

#[test]
fn xcr0_has_what_leaf_0d_announces() {
    let mut table = supported_cpuid();
    for entry in table.iter_mut().filter(|entry| entry.function == 0xD && entry.index == 0) {
        entry.eax = 3;
    }
    let mut guest = guest(&XSETBV);
    guest.set(Reg::Xcr0, 1);
    guest.vcpu.set_cpuid(table);
    set_mask(&mut guest, 7);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((GP, 0)));
}

#[test]
fn xsetbv_is_for_supervisors_and_number_zero() {
    let mut guest = super::guest(&XSETBV);
    guest.set_gpr(Gpr::Rcx, 1);
    set_mask(&mut guest, 1);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((GP, 0)));
    let mut guest = user(cr4::OSXSAVE, |a| a.db(&XSETBV).unwrap());
    set_mask(&mut guest, 1);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((GP, 0)));
}

#[test]
fn without_osxsave_both_are_undefined() {
    for code in [XGETBV, XSETBV] {
        let mut guest = supervisor(0, |a| a.db(&code).unwrap());
        set_mask(&mut guest, 1);
        guest.run_to_hlt();
        assert_eq!(exception(&guest).map(|found| found.0), Some(UD));
    }
}

#[test]
fn xgetbv_shows_xcr0_and_what_is_in_use() {
    for (number, expected) in [(0, Some(components())), (1, Some(5 & components())), (2, None)] {
        let mut guest = guest(&XGETBV);
        guest.vcpu.xrstor(&without_mxcsr(5 & components())).expect("an area");
        guest.set_gpr(Gpr::Rcx, number);
        guest.run_to_hlt();
        match expected {
            Some(value) => assert_eq!(guest.gpr(Gpr::Rax), value),
            None => assert_eq!(exception(&guest), Some((GP, 0))),
        }
    }
}

fn without_mxcsr(xstate_bv: u64) -> [u8; 4096] {
    let mut area = state(xstate_bv, 1);
    area.set(24, 0x1F80_u32.to_le_bytes());
    area.0
}

fn cpuid(guest: &mut super::Guest, function: u64, index: u64) -> [u64; 4] {
    guest.set(Reg::Rip, super::guest::START);
    guest.set_gpr(Gpr::Rax, function);
    guest.set_gpr(Gpr::Rcx, index);
    guest.run_to_hlt();
    [Gpr::Rax, Gpr::Rbx, Gpr::Rcx, Gpr::Rdx].map(|gpr| guest.gpr(gpr))
}

#[test]
fn cpuid_follows_the_control_registers() {
    let mut guest = guest(&CPUID);
    let all = components();
    for (xcr0, len) in [(1, 576), (3, 576), (all, components_len())] {
        guest.set(Reg::Xcr0, xcr0);
        assert_eq!(cpuid(&mut guest, 0xD, 0)[1], len as u64);
        let present = (2..8).filter(|number| xcr0 >> number & 1 != 0);
        let compacted = present.map(host_leaf).fold(576, |end, leaf| end + leaf.eax);
        assert_eq!(cpuid(&mut guest, 0xD, 1)[1], u64::from(compacted));
    }
    assert_eq!(cpuid(&mut guest, 1, 0)[2] >> 26 & 3, 3);
    guest.set(Reg::Cr4, cr4::PAE);
    assert_eq!(cpuid(&mut guest, 1, 0)[2] >> 26 & 3, 1);
}

fn host_leaf(index: u32) -> std::arch::x86_64::CpuidResult {
    __cpuid_count(0xD, index)
}

#[test]
fn components_are_where_the_host_has_them() {
    assert_eq!(xgetbv(0) & components(), components());
    let table = supported_cpuid();
    let entry = |index| -> &CpuidEntry {
        let mut found = table.iter().filter(|e| e.function == 0xD && e.index == index);
        found.next().expect("a component")
    };
    let announced = entry(0).eax;
    for index in (2..32).filter(|index| announced >> index & 1 != 0) {
        let host = host_leaf(index);
        let guest = entry(index);
        assert_eq!((guest.eax, guest.ebx, guest.ecx), (host.eax, host.ebx, host.ecx));
    }
    assert_eq!(u64::from(entry(0).eax) & components(), components());
    let protection_keys = table.iter().find(|e| (e.function, e.index) == (7, 0)).unwrap().ecx >> 3;
    assert_eq!(announced >> 9 & 1, protection_keys & 1);
    assert_eq!(entry(1).eax, 0xF);
}

#[test]
fn cpuid_shows_whether_the_local_apic_is_enabled() {
    let mut guest = guest(&CPUID);
    assert_eq!(cpuid(&mut guest, 1, 0)[3] >> 9 & 1, 1);
    guest.vcpu.set_msr(msr::IA32_APIC_BASE, 0xFEE0_0000).expect("a base");
    assert_eq!(cpuid(&mut guest, 1, 0)[3] >> 9 & 1, 0);
    guest.vcpu.note_apic_base(msr::APIC_BASE_RESET);
    assert_eq!(cpuid(&mut guest, 1, 0)[3] >> 9 & 1, 1);
}

#[test]
fn ia32_xss_holds_nothing() {
    let mut guest = guest(&XGETBV);
    assert_eq!(guest.vcpu.msr(msr::IA32_XSS), Ok(0));
    assert_eq!(guest.vcpu.set_msr(msr::IA32_XSS, 0), Ok(()));
    assert!(guest.vcpu.set_msr(msr::IA32_XSS, 1 << 8).is_err());
}
