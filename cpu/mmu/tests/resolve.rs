//! The slow path: what enters the TLB, and what goes to devices.

mod ram;

use cpu_mem::PageFlags;
use cpu_mmu::{
    Access, AccessKind, ControlRegisters, PageFault, Paging, Pdptes, Privilege, Target, Tlb,
    resolve,
};

use ram::Ram;

const P_RW_US: u64 = 7;
const USER: Privilege = Privilege::User;

/// 32-bit tables; linear page `n` is physical page `0x1_0000 + n * 0x1000`.
fn tables() -> (Ram, Paging) {
    let ram = Ram::at([0x1000, 0x2000, 0x1_0000]);
    ram.write_u32(0x1000, 0x2000 | 7);
    for page in 0..8 {
        ram.write(0x2000 + page * 8, 0);
    }
    for page in 0..8 {
        ram.write_u32(0x2000 + page * 4, ((0x1_0000 + page * 0x1000) | P_RW_US) as u32);
    }
    let registers =
        ControlRegisters { cr0: 1 << 31 | 1 << 16, cr3: 0x1000, ..ControlRegisters::default() };
    (ram, Paging::new(&registers, 40, Pdptes::default()))
}

fn user(kind: AccessKind) -> Access {
    Access { kind, privilege: USER }
}

#[test]
fn a_read_enters_for_reads_and_fetches_but_not_for_writes() {
    let (ram, paging) = tables();
    let mut tlb = Tlb::new();
    let target = resolve(&mut tlb, &paging, &ram.map, 0x123, user(AccessKind::Read));
    let page = ram.page(0x1_0000);
    assert_eq!(target, Ok(Target::Memory { gpa: 0x1_0123, page }));
    assert_eq!(tlb.read(USER, 0xfff), Some(page));
    assert_eq!(tlb.execute(USER, 0), Some(page));
    assert_eq!(tlb.write(USER, 0), None);
    assert_eq!(tlb.read(Privilege::Supervisor, 0), None);
    assert_eq!(tlb.gpa(USER, 0x456), Some(0x1_0456));
}

#[test]
fn a_write_enters_for_writes_with_the_dirty_bit_set() {
    let (ram, paging) = tables();
    let mut tlb = Tlb::new();
    resolve(&mut tlb, &paging, &ram.map, 0, user(AccessKind::Write)).unwrap();
    assert_eq!(tlb.write(USER, 8), Some(ram.page(0x1_0000)));
    assert_eq!(ram.read_u32(0x2000) & 0x60, 0x60);
}

#[test]
fn a_write_whose_dirty_bit_cannot_be_set_does_not_enter() {
    let (ram, paging) = tables();
    ram.restrict(0x2000, PageFlags::READ);
    let mut tlb = Tlb::new();
    let target = resolve(&mut tlb, &paging, &ram.map, 0, user(AccessKind::Write));
    assert!(matches!(target, Ok(Target::Memory { .. })));
    assert_eq!(tlb.write(USER, 0), None);
    assert!(tlb.read(USER, 0).is_some());
}

#[test]
fn no_memory_means_a_device_and_does_not_enter() {
    let (ram, paging) = tables();
    let mut tlb = Tlb::new();
    let target = resolve(&mut tlb, &paging, &ram.map, 0x1008, user(AccessKind::Read));
    assert_eq!(target, Ok(Target::NotBacked { gpa: 0x1_1008 }));
    assert_eq!(tlb.read(USER, 0x1008), None);
}

#[test]
fn a_write_to_read_only_memory_goes_to_the_device() {
    let (mut ram, paging) = tables();
    ram.add(0x1_2000, PageFlags::READ | PageFlags::EXECUTE);
    let mut tlb = Tlb::new();
    let write = resolve(&mut tlb, &paging, &ram.map, 0x2000, user(AccessKind::Write));
    assert_eq!(write, Ok(Target::NotBacked { gpa: 0x1_2000 }));
    let read = resolve(&mut tlb, &paging, &ram.map, 0x2000, user(AccessKind::Read));
    assert!(matches!(read, Ok(Target::Memory { gpa: 0x1_2000, .. })));
    assert_eq!(tlb.write(USER, 0x2000), None);
}

#[test]
fn a_page_fault_does_not_enter() {
    let (ram, paging) = tables();
    let mut tlb = Tlb::new();
    let error = resolve(&mut tlb, &paging, &ram.map, 0x40_0000, user(AccessKind::Read));
    assert_eq!(error, Err(PageFault { error_code: 4, gla: 0x40_0000 }));
    assert_eq!(tlb.gpa(USER, 0x40_0000), None);
}
