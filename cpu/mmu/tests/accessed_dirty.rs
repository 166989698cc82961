//! Accessed and dirty bits: when they are set, and where.

mod ram;

use cpu_mem::PageFlags;
use cpu_mmu::{Access, AccessKind, ControlRegisters, Paging, Pdptes, Privilege, translate, walk};

use ram::Ram;

const P_RW_US: u64 = 7;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;

const READ: Access = Access { kind: AccessKind::Read, privilege: Privilege::User };
const WRITE: Access = Access { kind: AccessKind::Write, privilege: Privilege::User };

/// Four-level tables at 0x1000 to 0x4000; linear page 0 is physical page 0x9000.
fn tables() -> Ram {
    let ram = Ram::at([0x1000, 0x2000, 0x3000, 0x4000]);
    for table in [0x1000, 0x2000, 0x3000] {
        ram.write(table, (table + 0x1000) | P_RW_US);
    }
    ram.write(0x4000, 0x9000 | P_RW_US);
    ram
}

fn four_level() -> Paging {
    let registers = ControlRegisters {
        cr0: 1 << 31 | 1 << 16,
        cr3: 0x1000,
        cr4: 1 << 5,
        efer: 1 << 10,
        pkru: 0,
    };
    Paging::new(&registers, 40, Pdptes::default())
}

fn bits(ram: &Ram) -> [u64; 4] {
    [0x1000, 0x2000, 0x3000, 0x4000].map(|table| ram.read(table) & (A | D))
}

#[test]
fn a_read_sets_accessed_on_the_way() {
    let ram = tables();
    let page = walk(&four_level(), &ram.map, 0, READ).unwrap();
    assert!(!page.dirty);
    assert_eq!(bits(&ram), [A, A, A, A]);
}

#[test]
fn a_write_sets_dirty_at_the_page_only() {
    let ram = tables();
    let page = walk(&four_level(), &ram.map, 0, WRITE).unwrap();
    assert!(page.dirty);
    assert_eq!(bits(&ram), [A, A, A, A | D]);
}

#[test]
fn a_read_of_a_dirty_page_says_so() {
    let ram = tables();
    walk(&four_level(), &ram.map, 0, WRITE).unwrap();
    assert!(walk(&four_level(), &ram.map, 0, READ).unwrap().dirty);
}

#[test]
fn a_large_page_has_its_dirty_bit_at_its_own_level() {
    let ram = tables();
    ram.write(0x3000, P_RW_US | 1 << 7);
    walk(&four_level(), &ram.map, 0x1234, WRITE).unwrap();
    assert_eq!(bits(&ram), [A, A, A | D, 0]);
}

#[test]
fn an_access_that_faults_sets_nothing() {
    let ram = tables();
    ram.write(0x4000, 0x9000 | 1);
    walk(&four_level(), &ram.map, 0, WRITE).unwrap_err();
    assert_eq!(bits(&ram), [0; 4]);
    ram.write(0x4000, 0);
    walk(&four_level(), &ram.map, 0, READ).unwrap_err();
    assert_eq!(bits(&ram), [0; 4]);
}

#[test]
fn translate_sets_nothing() {
    let ram = tables();
    assert_eq!(translate(&four_level(), &ram.map, 0x21).unwrap().gpa, 0x9021);
    assert_eq!(bits(&ram), [0; 4]);
}

#[test]
fn tables_in_read_only_memory_keep_their_bits_and_still_translate() {
    let ram = tables();
    ram.restrict(0x4000, PageFlags::READ);
    let page = walk(&four_level(), &ram.map, 0, WRITE).unwrap();
    assert_eq!(page.gpa, 0x9000);
    assert!(!page.dirty);
    assert_eq!(bits(&ram), [A, A, A, 0]);
}

#[test]
fn legacy_entries_are_updated_as_32_bit_words() {
    let ram = Ram::at([0x1000, 0x2000]);
    ram.write(0x1000, u64::MAX);
    ram.write_u32(0x1000, 0x2000 | 7);
    ram.write(0x2ff8, u64::MAX);
    ram.write_u32(0x2ffc, 0x9000 | 7);
    let registers = ControlRegisters { cr0: 1 << 31, cr3: 0x1000, ..ControlRegisters::default() };
    let paging = Paging::new(&registers, 40, Pdptes::default());
    let page = walk(&paging, &ram.map, 0x3f_f004, WRITE).unwrap();
    assert_eq!(page.gpa, 0x9004);
    assert_eq!(ram.read(0x1000), 0xffff_ffff_0000_2027);
    assert_eq!(ram.read(0x2ff8), 0x0000_9067_ffff_ffff);
}

#[test]
fn pae_sets_no_bit_in_the_pdpte_registers_table() {
    let ram = Ram::at([0x1000, 0x2000, 0x3000]);
    ram.write(0x1000, 0x2000 | 1);
    ram.write(0x2000, 0x3000 | P_RW_US);
    ram.write(0x3000, 0x9000 | P_RW_US);
    let registers = ControlRegisters { cr0: 1 << 31, cr3: 0x1000, cr4: 1 << 5, efer: 0, pkru: 0 };
    let paging = Paging::new(&registers, 40, Pdptes::Registers([0x2001, 0, 0, 0]));
    walk(&paging, &ram.map, 0, WRITE).unwrap();
    assert_eq!(ram.read(0x1000), 0x2001);
    assert_eq!(ram.read(0x2000) & (A | D), A);
    assert_eq!(ram.read(0x3000) & (A | D), A | D);
}

/// Another processor unmaps and maps the page: no bit may appear in an entry that it cleared.
#[test]
fn a_walk_never_sets_bits_in_an_entry_that_was_cleared_meanwhile() {
    let ram = tables();
    let paging = four_level();
    let entry = ram.page(0x4000);
    std::thread::scope(|scope| {
        let walker = scope.spawn(|| {
            for _ in 0..50_000 {
                let _ = walk(&paging, &ram.map, 0, WRITE);
            }
        });
        while !walker.is_finished() {
            entry.swap(0, 0_u64);
            for _ in 0..32 {
                assert_eq!(entry.load::<u64>(0), 0, "a bit was set in a cleared entry");
            }
            entry.swap(0, 0x9000 | P_RW_US);
        }
    });
}
