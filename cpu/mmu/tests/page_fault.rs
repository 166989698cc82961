//! Each bit of the page-fault error code, and what a walk finds at the borders of each mode.

mod ram;

use cpu_mem::PageFlags;
use cpu_mmu::{
    Access, AccessKind, ControlRegisters, Mode, PageFault, PageSize, Paging, Pdptes, Privilege,
    is_canonical, translate, walk,
};

use ram::Ram;

const P: u64 = 1;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const XD: u64 = 1 << 63;

const CR0_PG_WP: u64 = 1 << 31 | 1 << 16;
const CR4_PAE: u64 = 1 << 5;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

/// The page under test in four-level paging: index 1 at every level.
const GLA: u64 = 1 << 39 | 1 << 30 | 1 << 21 | 1 << 12;
const PAGE: u64 = 0x9000;

const READ: AccessKind = AccessKind::Read;
const WRITE: AccessKind = AccessKind::Write;
const EXECUTE: AccessKind = AccessKind::Execute;

const NOT_PRESENT: u32 = 0;
const PROTECTION: u32 = 1;
const BY_WRITE: u32 = 2;
const BY_USER: u32 = 4;
const RESERVED: u32 = 8;
const BY_FETCH: u32 = 16;

/// Four-level tables at 0x1000 to 0x4000 with one page; `pte` is its last entry.
fn four_level(pte: u64) -> Ram {
    let ram = Ram::at([0x1000, 0x2000, 0x3000, 0x4000]);
    for table in [0x1000, 0x2000, 0x3000] {
        ram.write(table + 8, (table + 0x1000) | P | RW | US);
    }
    ram.write(0x4008, pte);
    ram
}

fn registers(cr4: u64, efer: u64) -> ControlRegisters {
    ControlRegisters {
        cr0: CR0_PG_WP,
        cr3: 0x1000,
        cr4: CR4_PAE | cr4,
        efer: EFER_LMA | efer,
        pkru: 0,
    }
}

fn paging(cr4: u64, efer: u64) -> Paging {
    Paging::new(&registers(cr4, efer), 40, Pdptes::default())
}

fn error_code(paging: &Paging, ram: &Ram, privilege: Privilege, kind: AccessKind) -> Option<u32> {
    match walk(paging, &ram.map, GLA, Access { kind, privilege }) {
        Ok(_) => None,
        Err(PageFault { error_code, gla }) => {
            assert_eq!(gla, GLA);
            Some(error_code)
        }
    }
}

#[test]
fn a_page_that_is_not_present_reports_the_access_only() {
    let ram = four_level(PAGE | RW | US);
    let paging = paging(0, EFER_NXE);
    let code = |privilege, kind| error_code(&paging, &ram, privilege, kind);
    assert_eq!(code(Privilege::Supervisor, READ), Some(NOT_PRESENT));
    assert_eq!(code(Privilege::Supervisor, WRITE), Some(BY_WRITE));
    assert_eq!(code(Privilege::User, READ), Some(BY_USER));
    assert_eq!(code(Privilege::User, EXECUTE), Some(BY_USER | BY_FETCH));
}

#[test]
fn a_missing_page_wins_over_missing_rights_above_it() {
    let ram = four_level(0);
    ram.write(0x1008, 0x2000 | P);
    let code = error_code(&paging(0, 0), &ram, Privilege::User, WRITE);
    assert_eq!(code, Some(BY_USER | BY_WRITE));
}

#[test]
fn user_code_is_kept_out_of_supervisor_pages() {
    let ram = four_level(PAGE | P | RW);
    let paging = paging(0, 0);
    for (kind, bits) in [(READ, 0), (WRITE, BY_WRITE), (EXECUTE, 0)] {
        let code = error_code(&paging, &ram, Privilege::User, kind);
        assert_eq!(code, Some(PROTECTION | BY_USER | bits));
        assert_eq!(error_code(&paging, &ram, Privilege::Supervisor, kind), None);
    }
}

#[test]
fn every_level_can_take_a_right_away() {
    for table in [0x1000, 0x2000, 0x3000, 0x4000] {
        let ram = four_level(PAGE | P | RW | US);
        let whole = ram.read(table + 8);
        let paging = paging(0, EFER_NXE);
        let code = |kind| error_code(&paging, &ram, Privilege::User, kind);
        ram.write(table + 8, whole & !RW);
        assert_eq!(code(WRITE), Some(PROTECTION | BY_WRITE | BY_USER));
        assert_eq!(code(READ), None);
        ram.write(table + 8, whole & !US);
        assert_eq!(code(READ), Some(PROTECTION | BY_USER));
        ram.write(table + 8, whole | XD);
        assert_eq!(code(EXECUTE), Some(PROTECTION | BY_USER | BY_FETCH));
        assert_eq!(code(READ), None);
    }
}

#[test]
fn supervisor_writes_respect_read_only_pages_with_wp_only() {
    let ram = four_level(PAGE | P | US);
    let with_wp = paging(0, 0);
    assert_eq!(
        error_code(&with_wp, &ram, Privilege::Supervisor, WRITE),
        Some(PROTECTION | BY_WRITE)
    );
    let without_wp = Paging { wp: false, ..with_wp };
    assert_eq!(error_code(&without_wp, &ram, Privilege::Supervisor, WRITE), None);
    let user = error_code(&without_wp, &ram, Privilege::User, WRITE);
    assert_eq!(user, Some(PROTECTION | BY_WRITE | BY_USER));
}

#[test]
fn smep_keeps_supervisor_fetches_out_of_user_pages() {
    let ram = four_level(PAGE | P | RW | US);
    for privilege in [Privilege::Supervisor, Privilege::SupervisorAc] {
        let code = error_code(&paging(CR4_SMEP, 0), &ram, privilege, EXECUTE);
        assert_eq!(code, Some(PROTECTION | BY_FETCH));
        assert_eq!(error_code(&paging(0, 0), &ram, privilege, EXECUTE), None);
    }
    assert_eq!(error_code(&paging(CR4_SMEP, 0), &ram, Privilege::User, EXECUTE), None);
}

#[test]
fn smap_keeps_supervisor_data_accesses_out_of_user_pages_unless_ac_is_set() {
    let ram = four_level(PAGE | P | RW | US);
    let paging = paging(CR4_SMAP, 0);
    let code = |privilege, kind| error_code(&paging, &ram, privilege, kind);
    assert_eq!(code(Privilege::Supervisor, READ), Some(PROTECTION));
    assert_eq!(code(Privilege::Supervisor, WRITE), Some(PROTECTION | BY_WRITE));
    assert_eq!(code(Privilege::Supervisor, EXECUTE), None);
    assert_eq!(code(Privilege::SupervisorAc, WRITE), None);
    assert_eq!(code(Privilege::User, WRITE), None);
}

#[test]
fn implicit_accesses_report_supervisor_and_get_no_help_from_ac() {
    assert_eq!(Privilege::IMPLICIT, Privilege::Supervisor);
    assert_eq!(Privilege::explicit(3, true), Privilege::User);
    assert_eq!(Privilege::explicit(0, false), Privilege::Supervisor);
    assert_eq!(Privilege::explicit(2, true), Privilege::SupervisorAc);
}

#[test]
fn fetch_is_reported_only_with_nxe_or_smep() {
    let ram = four_level(0);
    let code = |cr4, efer| error_code(&paging(cr4, efer), &ram, Privilege::User, EXECUTE);
    assert_eq!(code(0, 0), Some(BY_USER));
    assert_eq!(code(CR4_SMEP, 0), Some(BY_USER | BY_FETCH));
    assert_eq!(code(0, EFER_NXE), Some(BY_USER | BY_FETCH));
}

#[test]
fn xd_is_reserved_without_nxe() {
    let ram = four_level(PAGE | P | XD);
    let code = |efer| error_code(&paging(0, efer), &ram, Privilege::Supervisor, READ);
    assert_eq!(code(0), Some(PROTECTION | RESERVED));
    assert_eq!(code(EFER_NXE), None);
}

#[test]
fn address_bits_from_maxphyaddr_on_are_reserved() {
    let paging = paging(0, 0);
    let code = |pte| error_code(&paging, &four_level(pte), Privilege::Supervisor, READ);
    assert_eq!(code(P | 1 << 39), None);
    assert_eq!(code(P | 1 << 40), Some(PROTECTION | RESERVED));
    assert_eq!(code(P | 1 << 51), Some(PROTECTION | RESERVED));
    assert_eq!(code(P | 1 << 52), None);
    assert_eq!(code(P | 1 << 62), None);
}

#[test]
fn reserved_bits_of_an_absent_entry_do_not_count() {
    let ram = four_level(XD | 1 << 51);
    let code = error_code(&paging(0, 0), &ram, Privilege::Supervisor, READ);
    assert_eq!(code, Some(NOT_PRESENT));
}

#[test]
fn page_size_is_reserved_where_no_page_of_that_size_exists() {
    let ram = four_level(PAGE | P);
    let code = |paging: &Paging| error_code(paging, &ram, Privilege::Supervisor, READ);
    ram.write(0x1008, 0x2000 | P | PS);
    assert_eq!(code(&paging(0, 0)), Some(PROTECTION | RESERVED));
    ram.write(0x1008, 0x2000 | P);
    ram.write(0x2008, 0x4000_0000 | P | PS);
    assert_eq!(code(&paging(0, 0)), None);
    let without_1g = Paging { page_1g: false, ..paging(0, 0) };
    assert_eq!(code(&without_1g), Some(PROTECTION | RESERVED));
}

#[test]
fn large_pages_keep_the_offset_and_reserve_their_low_address_bits() {
    let ram = four_level(0);
    let access = Access { kind: READ, privilege: Privilege::Supervisor };
    // Bit 12 is PAT, not address.
    ram.write(0x3008, 0x60_0000 | P | PS | 1 << 12);
    let page = walk(&paging(0, 0), &ram.map, GLA + 0x123, access).unwrap();
    assert_eq!((page.gpa, page.page_size), (0x60_1123, PageSize::Size2M));
    ram.write(0x3008, 0x60_0000 | P | PS | 1 << 13);
    let code = error_code(&paging(0, 0), &ram, Privilege::Supervisor, READ);
    assert_eq!(code, Some(PROTECTION | RESERVED));
    ram.write(0x2008, 0x4000_0000 | P | PS);
    let page = walk(&paging(0, 0), &ram.map, GLA + 0x123, access).unwrap();
    assert_eq!((page.gpa, page.page_size), (0x4020_1123, PageSize::Size1G));
}

#[test]
fn a_table_outside_of_memory_is_not_present() {
    let mut ram = four_level(0);
    ram.write(0x2008, 0x7000 | P);
    assert_eq!(error_code(&paging(0, 0), &ram, Privilege::Supervisor, READ), Some(0));
    assert_eq!(translate(&paging(0, 0), &ram.map, GLA), Err(PageFault { error_code: 0, gla: GLA }));
    ram.add(0x7000, PageFlags::WRITE);
    assert_eq!(error_code(&paging(0, 0), &ram, Privilege::Supervisor, READ), Some(0));
}

#[test]
fn global_counts_at_the_page_and_with_pge_only() {
    let ram = four_level(PAGE | P | G);
    let global = |paging: &Paging| translate(paging, &ram.map, GLA).unwrap().global;
    assert!(!global(&paging(0, 0)));
    assert!(global(&paging(1 << 7, 0)));
    ram.write(0x4008, PAGE | P);
    ram.write(0x1008, 0x2000 | P | G);
    assert!(!global(&paging(1 << 7, 0)));
}

#[test]
fn pse_36_puts_four_mebibyte_pages_above_four_gibibytes() {
    let ram = Ram::at([0x1000]);
    let registers = ControlRegisters {
        cr0: CR0_PG_WP,
        cr3: 0x1000,
        cr4: 1 << 4,
        ..ControlRegisters::default()
    };
    let access = Access { kind: READ, privilege: Privilege::Supervisor };
    let at = |entry: u64, max_phy_addr: u8| {
        ram.write_u32(0x1004, entry as u32);
        walk(&Paging::new(&registers, max_phy_addr, Pdptes::default()), &ram.map, 0x40_0abc, access)
    };
    let high = 0xff << 13;
    let page = at(0x80_0000 | high | P | PS, 40).unwrap();
    assert_eq!((page.gpa, page.page_size), (0xff_0080_0abc, PageSize::Size4M));
    let reserved = PageFault { error_code: PROTECTION | RESERVED, gla: 0x40_0abc };
    assert_eq!(at(0x80_0000 | high | P | PS, 36), Err(reserved));
    assert_eq!(at(0x80_0000 | 1 << 13 | P | PS, 32), Err(reserved));
    assert_eq!(at(0x80_0000 | 1 << 21 | P | PS, 52), Err(reserved));
}

#[test]
fn modes_follow_the_control_bits() {
    let mode = |cr0, cr4, efer| {
        Paging::new(&ControlRegisters { cr0, cr3: 0, cr4, efer, pkru: 0 }, 40, Pdptes::default())
            .mode
    };
    assert_eq!(mode(1, CR4_PAE, 0), Mode::Off);
    assert_eq!(mode(CR0_PG_WP, 0, EFER_NXE), Mode::Legacy);
    assert_eq!(mode(CR0_PG_WP, CR4_PAE, 0), Mode::Pae);
    assert_eq!(mode(CR0_PG_WP, CR4_PAE, EFER_LMA), Mode::Level4);
    assert_eq!(mode(CR0_PG_WP, CR4_PAE | 1 << 12, EFER_LMA), Mode::Level5);
}

#[test]
fn canonical_addresses_repeat_their_top_bit() {
    assert!(is_canonical(0x7fff_ffff_ffff, false));
    assert!(!is_canonical(0x8000_0000_0000, false));
    assert!(is_canonical(0xffff_8000_0000_0000, false));
    assert!(!is_canonical(0xffff_7fff_ffff_ffff, false));
    assert!(is_canonical(0xff_ffff_ffff_ffff, true));
    assert!(!is_canonical(0x100_0000_0000_0000, true));
}
