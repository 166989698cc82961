//! The TLB against a map without capacity: whatever it still knows must be in that map.

mod ram;

use std::collections::HashMap;

use cpu_mem::{PageFlags, PhysMap};
use cpu_mmu::{
    Access, AccessKind, ControlRegisters, Forget, PageSize, Paging, Pdptes, Privilege, Tlb,
    Translation, walk,
};
use proptest::prelude::*;

use ram::Ram;

/// Linear page numbers: neighbours, and pages that share a place (16384 apart).
const PAGES: [u64; 8] = [0, 1, 2, 16384, 16385, 512, 0xf_f000, 0xf_fffe];

const KINDS: [AccessKind; 3] = [AccessKind::Read, AccessKind::Write, AccessKind::Execute];

/// Where every linear page of a case leads.
const GPA_PAGES: u64 = 4;

#[derive(Clone, Debug)]
enum Step {
    Insert { page: u64, access: Access, entry: u32 },
    FlushAll,
    FlushNonGlobal,
    FlushPage(u64),
    TrapWrites(u64),
    Activate(u16),
    FlushAllNonGlobal,
    FlushPcid(u16),
    FlushPageOf(u16, u64),
}

fn access() -> impl Strategy<Value = Access> {
    let kind = prop::sample::select(KINDS.to_vec());
    let privilege = prop::sample::select(Privilege::ALL.to_vec());
    (kind, privilege).prop_map(|(kind, privilege)| Access { kind, privilege })
}

/// Few that come often, and more than there are sets.
fn pcid() -> impl Strategy<Value = u16> {
    prop_oneof![0..3_u16, 0..12_u16]
}

fn step() -> impl Strategy<Value = Step> {
    let page = || prop::sample::select(PAGES.to_vec());
    prop_oneof![
        12 => (page(), access(), any::<u32>())
            .prop_map(|(page, access, entry)| Step::Insert { page, access, entry }),
        1 => Just(Step::FlushAll),
        1 => Just(Step::FlushNonGlobal),
        2 => page().prop_map(Step::FlushPage),
        1 => (0..GPA_PAGES).prop_map(Step::TrapWrites),
        4 => pcid().prop_map(Step::Activate),
        1 => Just(Step::FlushAllNonGlobal),
        1 => pcid().prop_map(Step::FlushPcid),
        1 => (pcid(), page()).prop_map(|(pcid, page)| Step::FlushPageOf(pcid, page)),
    ]
}

/// What the reference knows of one page under one privilege.
#[derive(Clone, Copy)]
struct Known {
    translation: Translation,
    write: bool,
}

/// By identifier, privilege and page; beside it the active identifier.
#[derive(Default)]
struct Reference {
    known: HashMap<(u16, Privilege, u64), Known>,
    pcid: u16,
}

/// Whether a page that `known` came from lies around another one.
fn around(known: &Known, page: u64, flushed: u64) -> bool {
    let pages = known.translation.page_size.bytes() >> 12;
    page / pages == flushed / pages
}

/// Where the page of an address is in this process.
fn host(ram: &Ram, gpa: u64) -> u64 {
    ram.map.page(gpa).expect("memory").address()
}

/// A translation as a walk gives it: page directory at 0x1000, page table at 0x2000.
fn walked(ram: &Ram, page: u64, access: Access, entry: u32) -> Option<Translation> {
    let leaf = (entry & 0x15e) | 1 | ((0x1_0000 + u64::from(entry >> 30) * 0x1000) as u32);
    let directory = 0x1000 + (page >> 10) * 4;
    if entry & 1 << 29 != 0 {
        ram.write_u32(directory, (entry & 0x15e) | 0x81);
    } else {
        ram.write_u32(directory, 0x2007);
        ram.write_u32(0x2000 + (page & 1023) * 4, leaf & !0x80);
    }
    let registers = ControlRegisters {
        cr0: 1 << 31 | 1 << 16,
        cr3: 0x1000,
        cr4: 1 << 4 | 1 << 7 | 1 << 21,
        efer: 0,
        pkru: 0,
    };
    let paging = Paging::new(&registers, 40, Pdptes::default());
    walk(&paging, &ram.map, page << 12, access).ok()
}

fn apply(tlb: &mut Tlb, reference: &mut Reference, ram: &Ram, step: &Step) {
    match *step {
        Step::Insert { page, access, entry } => {
            let Some(translation) = walked(ram, page, access, entry) else { return };
            let Some(host) = ram.map.page(translation.gpa) else { return };
            let write = access.kind == AccessKind::Write || entry & 1 << 28 != 0;
            tlb.insert(access, page << 12, &translation, host, write);
            let write = write && translation.dirty;
            let key = (reference.pcid, access.privilege, page);
            reference.known.insert(key, Known { translation, write });
        }
        Step::FlushAll => {
            tlb.flush_all();
            reference.known.clear();
        }
        Step::FlushNonGlobal => {
            tlb.flush_non_global();
            let active = reference.pcid;
            reference.known.retain(|key, known| key.0 != active || known.translation.global);
        }
        Step::FlushPage(flushed) => {
            tlb.flush_page((flushed << 12) + 0xabc);
            let active = reference.pcid;
            reference.known.retain(|&(pcid, _, page), known| {
                let concerned = pcid == active || known.translation.global;
                !(concerned && around(known, page, flushed))
            });
        }
        Step::Activate(pcid) => {
            tlb.activate(pcid);
            reference.pcid = pcid;
        }
        Step::FlushAllNonGlobal => {
            tlb.flush_all_non_global();
            reference.known.retain(|_, known| known.translation.global);
        }
        Step::FlushPcid(flushed) => {
            tlb.flush_pcid(flushed);
            reference.known.retain(|key, known| key.0 != flushed || known.translation.global);
        }
        Step::FlushPageOf(of, flushed) => {
            tlb.flush_page_of(of, flushed << 12);
            reference
                .known
                .retain(|&(pcid, _, page), known| !(pcid == of && around(known, page, flushed)));
        }
        Step::TrapWrites(gpa_page) => {
            tlb.trap_writes(host(ram, 0x1_0000 + gpa_page * 0x1000));
            for known in reference.known.values_mut() {
                known.write &= known.translation.gpa >> 12 != 0x10 + gpa_page;
            }
        }
    }
}

fn check(tlb: &Tlb, reference: &Reference, map: &PhysMap) -> Result<(), TestCaseError> {
    for privilege in Privilege::ALL {
        for page in PAGES {
            let gla = (page << 12) + 0x7ff;
            let hits = [
                (AccessKind::Read, tlb.read(privilege, gla)),
                (AccessKind::Write, tlb.write(privilege, gla)),
                (AccessKind::Execute, tlb.execute(privilege, gla)),
            ];
            for (kind, hit) in hits {
                let Some(host) = hit else { continue };
                let known = reference.known.get(&(reference.pcid, privilege, page));
                let known = known.ok_or_else(|| {
                    TestCaseError::fail(format!("{kind:?} of flushed page {page:#x} hits"))
                })?;
                prop_assert!(known.translation.rights(privilege).allows(kind));
                prop_assert!(kind != AccessKind::Write || known.write);
                prop_assert_eq!(Some(host), map.page(known.translation.gpa));
                prop_assert_eq!(tlb.gpa(privilege, gla), Some(known.translation.gpa + 0x7ff));
            }
        }
    }
    Ok(())
}

fn ram() -> Ram {
    // The large page of `walked` leads to gpa 0 to 4 MiB, where the tables and pages lie too.
    Ram::at([0x1000, 0x2000].into_iter().chain((0..GPA_PAGES).map(|n| 0x1_0000 + n * 0x1000)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hits_are_what_was_inserted_and_not_flushed(steps in prop::collection::vec(step(), 1..60)) {
        let ram = ram();
        let mut tlb = Tlb::new();
        let mut reference = Reference::default();
        for step in &steps {
            apply(&mut tlb, &mut reference, &ram, step);
            check(&tlb, &reference, &ram.map)?;
        }
    }

    #[test]
    fn an_insertion_hits_at_once(page in prop::sample::select(PAGES.to_vec()), access in access(), entry: u32) {
        let ram = ram();
        let mut tlb = Tlb::new();
        let mut reference = Reference::default();
        apply(&mut tlb, &mut reference, &ram, &Step::Insert { page, access, entry });
        if reference.known.is_empty() {
            return Ok(());
        }
        let hit = match access.kind {
            AccessKind::Read => tlb.read(access.privilege, page << 12),
            AccessKind::Write => tlb.write(access.privilege, page << 12),
            AccessKind::Execute => tlb.execute(access.privilege, page << 12),
        };
        prop_assert_eq!(hit.is_some(), access.privilege != Privilege::UserAligned);
    }
}

/// A supervisor page behind linear page `page`, inserted by a write.
fn insert(tlb: &mut Tlb, ram: &Ram, page: u64, entry: u32) {
    let access = Access { kind: AccessKind::Write, privilege: Privilege::Supervisor };
    let translation = walked(ram, page, access, entry).expect("a writable page");
    let host = ram.page(translation.gpa);
    tlb.insert(access, page << 12, &translation, host, true);
}

const WRITABLE: u32 = 2;
const GLOBAL: u32 = 1 << 8;
const LARGE: u32 = 1 << 29;

fn hit(tlb: &Tlb, page: u64) -> bool {
    tlb.read(Privilege::Supervisor, page << 12).is_some()
}

#[test]
fn global_pages_survive_a_flush_of_the_others() {
    let (ram, mut tlb) = (ram(), Tlb::new());
    insert(&mut tlb, &ram, 3, WRITABLE | GLOBAL);
    insert(&mut tlb, &ram, 4, WRITABLE);
    tlb.flush_non_global();
    assert!(hit(&tlb, 3) && !hit(&tlb, 4));
    tlb.flush_all();
    assert!(!hit(&tlb, 3));
}

#[test]
fn flushing_a_page_takes_global_ones_and_no_neighbour() {
    let (ram, mut tlb) = (ram(), Tlb::new());
    insert(&mut tlb, &ram, 3, WRITABLE | GLOBAL);
    insert(&mut tlb, &ram, 4, WRITABLE);
    tlb.flush_page(0x3fff);
    assert!(!hit(&tlb, 3) && hit(&tlb, 4));
    tlb.flush_page((4 + 16384) << 12);
    assert!(hit(&tlb, 4), "another page that shares the place");
}

#[test]
fn flushing_any_address_of_a_large_page_takes_all_pieces() {
    let (ram, mut tlb) = (ram(), Tlb::new());
    for page in 0x10..0x14 {
        insert(&mut tlb, &ram, page, WRITABLE | LARGE);
    }
    insert(&mut tlb, &ram, 1024 + 0x20, WRITABLE);
    tlb.flush_page(0x3f_f000);
    assert!((0x10..0x14).all(|page| !hit(&tlb, page)));
    assert!(hit(&tlb, 1024 + 0x20));
}

#[test]
fn trapped_writes_come_back_with_the_next_write_only() {
    let (ram, mut tlb) = (ram(), Tlb::new());
    let write = |tlb: &Tlb, page: u64| tlb.write(Privilege::Supervisor, page << 12).is_some();
    insert(&mut tlb, &ram, 3, WRITABLE);
    insert(&mut tlb, &ram, 4, WRITABLE);
    tlb.trap_writes(host(&ram, 0x1_0000));
    assert!(!write(&tlb, 3) && !write(&tlb, 4), "both lead to the same page");
    assert!(hit(&tlb, 3));
    insert(&mut tlb, &ram, 3, WRITABLE);
    assert!(write(&tlb, 3));
}

#[test]
fn rights_of_the_physical_page_limit_the_entry() {
    let (ram, mut tlb) = (ram(), Tlb::new());
    ram.restrict(0x1_0000, PageFlags::READ);
    insert(&mut tlb, &ram, 3, WRITABLE);
    let (gla, privilege) = (3 << 12, Privilege::Supervisor);
    assert!(tlb.read(privilege, gla).is_some());
    assert!(tlb.write(privilege, gla).is_none());
    assert!(tlb.execute(privilege, gla).is_none());
}

#[test]
fn pages_of_an_identifier_wait_until_it_is_active_again() {
    let (ram, mut tlb) = (ram(), Tlb::new());
    insert(&mut tlb, &ram, 3, WRITABLE);
    tlb.activate(5);
    assert!(!hit(&tlb, 3), "a page of identifier 0");
    tlb.flush_non_global();
    tlb.activate(0);
    assert!(hit(&tlb, 3));
    tlb.activate(5);
    tlb.flush_pcid(0);
    tlb.activate(0);
    assert!(!hit(&tlb, 3));
}

#[test]
fn flushing_a_page_takes_global_ones_of_every_identifier() {
    let (ram, mut tlb) = (ram(), Tlb::new());
    insert(&mut tlb, &ram, 3, WRITABLE | GLOBAL);
    insert(&mut tlb, &ram, 4, WRITABLE);
    tlb.activate(1);
    tlb.flush_page(3 << 12);
    tlb.flush_page(4 << 12);
    tlb.activate(0);
    assert!(!hit(&tlb, 3) && hit(&tlb, 4));
}

#[test]
fn page_sizes_are_in_bytes() {
    let sizes = [PageSize::Size4K, PageSize::Size2M, PageSize::Size4M, PageSize::Size1G];
    assert_eq!(sizes.map(PageSize::bytes), [0x1000, 0x20_0000, 0x40_0000, 0x4000_0000]);
}

fn forget_page(page: u64, space: Option<u64>) -> Forget {
    let first = page << 12;
    Forget { space, pages: Some(vec![(first, first | 0xfff)]), keep_global: false }
}

#[test]
fn hv_30_another_processor_has_named_pages_forgotten_and_no_neighbour() {
    let (ram, mut tlb) = (ram(), Tlb::new());
    for page in [0, 1, 2] {
        insert(&mut tlb, &ram, page, WRITABLE);
    }
    tlb.forget_for_others(&forget_page(1, None));
    assert_eq!([0, 1, 2].map(|page| hit(&tlb, page)), [true, false, true]);
    assert!(tlb.knows(0, 0) && !tlb.knows(0, 0x1000));
    let flushed = tlb.take_flushed().unwrap();
    assert!(!flushed.all && !flushed.non_global);
    assert!(flushed.ranges.contains(&(0x1000, 0x1fff)));
}

#[test]
fn hv_42_only_sets_of_the_space_that_is_named_forget() {
    let (ram, mut tlb) = (ram(), Tlb::new());
    for (pcid, root) in [(1, 0x8000), (2, 0xa000)] {
        tlb.activate(pcid);
        tlb.enter_space(root);
        insert(&mut tlb, &ram, 1, WRITABLE);
    }
    tlb.forget_for_others(&forget_page(1, Some(0x8000)));
    assert!(!tlb.knows(1, 0x1000) && tlb.knows(2, 0x1000));
    tlb.forget_for_others(&forget_page(1, Some(0xb000)));
    assert!(!tlb.knows(2, 0x1000), "the other root of a pair");
}

#[test]
fn hv_42_an_identifier_of_several_spaces_forgets_for_each() {
    let (ram, mut tlb) = (ram(), Tlb::new());
    tlb.activate(1);
    tlb.enter_space(0x8000);
    insert(&mut tlb, &ram, 1, WRITABLE);
    tlb.enter_space(0xa000);
    insert(&mut tlb, &ram, 2, WRITABLE);
    tlb.forget_for_others(&forget_page(1, Some(0x8000)));
    assert!(!tlb.knows(1, 0x1000) && tlb.knows(1, 0x2000));
    tlb.flush_non_global();
    insert(&mut tlb, &ram, 2, WRITABLE);
    tlb.forget_for_others(&forget_page(2, Some(0x8000)));
    assert!(tlb.knows(1, 0x2000), "what is there now is of the present space");
}
