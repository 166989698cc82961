//! What the family refuses, and that nothing has changed then.

use std::arch::x86_64::__cpuid_count;

use cpu_defs::{Gpr, Reg, cr4};

use super::guest::PAGE_TABLE;
use super::rings::{exception, supervisor, user};
use super::{AT, components, guest, set_mask, state, state_with_error};

const XSAVE: &[u8] = &[0x0F, 0xAE, 0x27];
const XSAVEC: &[u8] = &[0x0F, 0xC7, 0x27];
const XSAVES: &[u8] = &[0x0F, 0xC7, 0x2F];
const XRSTOR: &[u8] = &[0x0F, 0xAE, 0x2F];
const XRSTORS: &[u8] = &[0x0F, 0xC7, 0x1F];
const ALL: [&[u8]; 6] = [XSAVE, &[0x0F, 0xAE, 0x37], XSAVEC, XSAVES, XRSTOR, XRSTORS];
const UD: u64 = 6;
const NM: u64 = 7;
const GP: u64 = 13;
const PF: u64 = 14;

fn vector(guest: &super::Guest) -> Option<u64> {
    exception(guest).map(|found| found.0)
}

#[test]
fn availability_is_asked_first() {
    for code in ALL {
        let mut guest = supervisor(0, |a| a.db(code).unwrap());
        guest.set_gpr(Gpr::Rdi, AT + 1);
        guest.run_to_hlt();
        assert_eq!(vector(&guest), Some(UD));
        let mut guest = super::guest(code);
        guest.set_gpr(Gpr::Rdi, AT + 1);
        guest.set(Reg::Cr0, 0x8001_0019);
        guest.run_to_hlt();
        assert_eq!(vector(&guest), Some(NM));
    }
}

#[test]
fn the_area_is_aligned_to_64() {
    for code in ALL {
        for offset in [1, 16, 32] {
            let mut guest = guest(code);
            guest.set_gpr(Gpr::Rdi, AT + offset);
            guest.run_to_hlt();
            assert_eq!(exception(&guest), Some((GP, 0)));
        }
    }
}

#[test]
fn the_forms_for_supervisors_are_theirs() {
    for code in [XSAVES, XRSTORS] {
        let mut guest = user(cr4::OSXSAVE, |a| a.db(code).unwrap());
        guest.set_gpr(Gpr::Rdi, super::rings::USER_PAGE);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), Some((GP, 0)));
    }
}

#[test]
fn xsaves_writes_and_xrstors_takes_the_compacted_format_alone() {
    let with_rex_w = [&[0x48], XSAVES, &[0x48], XRSTORS].concat();
    let mut guest = guest(&with_rex_w);
    guest.vcpu.xrstor(&state_with_error(components(), 2).0).expect("an area");
    let before = guest.vcpu.xsave();
    set_mask(&mut guest, u64::MAX);
    guest.run_to_hlt();
    assert_eq!(guest.read_u64(AT + 520), 1 << 63 | components());
    assert!(guest.vcpu.xsave() == before);

    let mut guest = super::guest(XRSTORS);
    guest.load(AT, &state(components(), 2).0);
    guest.run_to_hlt();
    assert_eq!(exception(&guest), Some((GP, 0)));
}

#[test]
fn headers_and_mxcsr_are_checked_and_nothing_is_loaded() {
    let compacted = 1 << 63 | components();
    let cases: [(usize, &[u64], u64); 13] = [
        (512, &[1 << 3], 0),
        (512, &[1 << 63], 0),
        (512, &[0x201], 0),
        (520, &[1], 0),
        (528, &[1], 0),
        (520, &[compacted, 1], 0),
        (520, &[compacted, 0, 1], 0),
        (520, &[compacted, 0, 0, 0, 0, 0, 1], 0),
        (520, &[compacted | 8], 0),
        (520, &[compacted & !1], 0),
        (24, &[0x1_1F80], u64::MAX),
        (24, &[0x1_1F80], 2),
        (24, &[0x8000_1F80], 4),
    ];
    for (at, words, mask) in cases {
        let mut guest = guest(XRSTOR);
        guest.vcpu.xrstor(&state(components(), 2).0).expect("an area");
        let before = guest.vcpu.xsave();
        guest.load(AT, &state(components(), 3).0);
        for (number, &word) in words.iter().enumerate() {
            guest.write_u64(AT + (at + 8 * number) as u64, word);
        }
        set_mask(&mut guest, mask);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), Some((GP, 0)), "{at} {words:x?} {mask:x}");
        assert!(guest.vcpu.xsave() == before);
    }
}

#[test]
fn bytes_beyond_the_standard_header_and_an_unused_mxcsr_are_not_checked() {
    for (at, value, mask) in [(536, 1_u64, u64::MAX), (568, 1, u64::MAX), (24, 0x1_1F80, 1)] {
        let mut guest = guest(XRSTOR);
        guest.load(AT, &state(components(), 3).0);
        guest.write_u64(AT + at, value);
        set_mask(&mut guest, mask);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), None, "{at}");
    }
}

/// An area that begins in one page and goes on in the next, which is not writable or absent.
#[test]
fn a_page_fault_in_the_second_page_changes_nothing() {
    let start = AT + 0x1000 - 640;
    for (code, entry, error) in
        [(XSAVE, AT + 0x1000 + 1, 3), (XSAVEC, AT + 0x1000 + 1, 3), (XSAVES, 0, 2), (XRSTOR, 0, 0)]
    {
        let mut guest = guest(code);
        guest.vcpu.xrstor(&state(components(), 2).0).expect("an area");
        let before = guest.vcpu.xsave();
        let area = state(components(), 3);
        guest.load(start, &area.0[..640]);
        guest.write_u64(PAGE_TABLE + ((AT >> 12) + 1) * 8, entry);
        guest.set_gpr(Gpr::Rdi, start);
        set_mask(&mut guest, u64::MAX);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), Some((PF, error)));
        assert_eq!(guest.vcpu.reg(Reg::Cr2), AT + 0x1000);
        assert!(guest.vcpu.xsave() == before);
        assert_eq!(guest.read::<640>(start), area.0[..640]);
    }
}

/// Only what is asked for is touched: the legacy region and the header end before the page does.
#[test]
fn pages_that_hold_no_requested_component_are_not_touched() {
    let start = AT + 0x1000 - 576;
    for code in [XSAVE, XRSTOR] {
        let mut guest = guest(code);
        guest.load(start, &state(3, 3).0[..576]);
        guest.write_u64(PAGE_TABLE + ((AT >> 12) + 1) * 8, 0);
        guest.set_gpr(Gpr::Rdi, start);
        set_mask(&mut guest, 3);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), None);
    }
}

#[test]
fn the_whole_area_up_to_the_last_requested_component_is_accessible() {
    let last = components().ilog2();
    let len = if last < 2 { 576 } else { end_of(last) };
    for (code, mask, len) in [
        (XSAVE, 0, 576),
        (XSAVEC, 0, 576),
        (XRSTOR, 0, 576),
        (XSAVE, 1 << last, len),
        (XRSTOR, 1 << last, len),
    ] {
        for (absent, room, fault) in [(1, len, false), (1, len - 64, true), (0, 64, true)] {
            let mut guest = guest(code);
            guest.write_u64(PAGE_TABLE + 8 * (AT >> 12) + 8 * absent, 0);
            let at = AT + 0x1000 - room;
            guest.set_gpr(Gpr::Rdi, at);
            set_mask(&mut guest, mask);
            guest.run_to_hlt();
            let expected = fault.then_some(PF);
            assert_eq!(vector(&guest), expected, "{code:x?} {mask:x} {absent} {room}");
        }
    }
}

/// End of a component in the standard format.
fn end_of(component: u32) -> u64 {
    let leaf = __cpuid_count(0xD, component);
    u64::from(leaf.eax) + u64::from(leaf.ebx)
}
