//! Translations that say why there are none, and the bits that they set.

mod ram;

use cpu_mem::PageFlags;
use cpu_mmu::{
    Access, AccessKind, ControlRegisters, Failure, Found, Paging, Pdptes, Privilege, Wanted, probe,
    walk,
};

use ram::Ram;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const XD: u64 = 1 << 63;
const ALL: u64 = P | RW | US;

const TABLES: [u64; 4] = [0x1000, 0x2000, 0x3000, 0x4000];
const PAGE: u64 = 0x9000;
const OFFSET: u64 = 0x123;

const READ: Wanted = Wanted {
    privilege: Privilege::Supervisor,
    write: false,
    execute: false,
    set_accessed: false,
    set_dirty: false,
    force_accessed: false,
};
const MARK: Wanted = Wanted { set_accessed: true, ..READ };
const FORCE: Wanted = Wanted { force_accessed: true, ..MARK };
const WRITE: Wanted = Wanted { write: true, ..MARK };

/// Four-level tables; linear page 0 is [`PAGE`].
fn tables() -> Ram {
    let ram = Ram::at(TABLES.into_iter().chain([PAGE, 0]));
    for table in &TABLES[..3] {
        ram.write(*table, (table + 0x1000) | ALL);
    }
    ram.write(TABLES[3], PAGE | ALL);
    ram
}

fn four_level() -> Paging {
    let registers = ControlRegisters {
        cr0: 1 << 31 | 1 << 16,
        cr3: TABLES[0],
        cr4: 1 << 5,
        efer: 1 << 10 | 1 << 11,
        pkru: 0,
    };
    Paging::new(&registers, 40, Pdptes::default())
}

fn found(ram: &Ram, wanted: Wanted) -> Found {
    probe(&four_level(), &ram.map, OFFSET, wanted)
}

fn bits(ram: &Ram) -> [u64; 4] {
    TABLES.map(|table| ram.read(table) & (A | D))
}

#[test]
fn tr_05_no_bit_is_set_unless_it_is_wanted() {
    let ram = tables();
    assert_eq!(found(&ram, READ), Found { gpa: PAGE + OFFSET, failure: None, marked: false });
    assert_eq!(bits(&ram), [0; 4]);
    assert_eq!(found(&ram, MARK), Found { gpa: PAGE + OFFSET, failure: None, marked: true });
    assert_eq!(bits(&ram), [A; 4]);
    assert!(found(&ram, Wanted { set_dirty: true, ..WRITE }).marked);
    assert_eq!(bits(&ram), [A, A, A, A | D]);
}

#[test]
fn tr_04_an_entry_that_is_not_present_is_told() {
    for (level, &table) in TABLES.iter().enumerate() {
        let ram = tables();
        ram.write(table, ram.read(table) & !P);
        let failure = Some(Failure::NotPresent);
        assert_eq!(found(&ram, MARK), Found { gpa: table, failure, marked: false });
        assert_eq!(bits(&ram), [0; 4]);
        assert_eq!(found(&ram, FORCE), Found { gpa: table, failure, marked: true });
        let marked = std::array::from_fn(|entry| if entry < level { A } else { 0 });
        assert_eq!(bits(&ram), marked);
    }
}

#[test]
fn tr_04_a_reserved_bit_is_told() {
    for table in TABLES {
        let ram = tables();
        ram.write(table, ram.read(table) | 1 << 51);
        let Found { gpa, failure, .. } = found(&ram, READ);
        assert_eq!((gpa, failure), (table, Some(Failure::Reserved)));
    }
}

#[test]
fn tr_04_a_table_without_memory_is_told() {
    for (place, table) in TABLES[..3].iter().enumerate() {
        let ram = tables();
        ram.write(*table, 0x5_0000 | ALL);
        let Found { gpa, failure, marked } = found(&ram, FORCE);
        assert_eq!((gpa, failure, marked), (0x5_0000, Some(Failure::NoMemory), true));
        assert_eq!(bits(&ram)[place], A, "the entry that leads there was used");
    }
}

#[test]
fn tr_04_a_page_without_memory_is_told() {
    let ram = tables();
    ram.write(TABLES[3], 0x5_0000 | ALL);
    let Found { gpa, failure, .. } = found(&ram, MARK);
    assert_eq!((gpa, failure), (0x5_0000 + OFFSET, Some(Failure::NoMemory)));
    assert_eq!(bits(&ram), [0; 4]);
}

#[test]
fn tr_06_the_entry_that_denies_is_told() {
    let user = Privilege::User;
    let denied = [
        (RW, Wanted { write: true, ..READ }),
        (US, Wanted { privilege: user, ..READ }),
        (XD, Wanted { execute: true, ..READ }),
        (RW, Wanted { write: true, execute: true, ..READ }),
        (XD, Wanted { write: true, execute: true, ..READ }),
    ];
    for (bit, wanted) in denied {
        for table in TABLES {
            let ram = tables();
            ram.write(table, ram.read(table) ^ bit);
            let Found { gpa, failure, .. } = found(&ram, wanted);
            assert_eq!((gpa, failure), (table, Some(Failure::Denied)), "{bit:#x}");
        }
    }
}

#[test]
fn tr_05_entries_that_cannot_be_written_keep_their_bits() {
    let ram = tables();
    ram.restrict(TABLES[2], PageFlags::READ);
    let Found { failure, marked, .. } = found(&ram, MARK);
    assert_eq!((failure, marked), (None, false));
    assert_eq!(bits(&ram), [A, A, 0, A]);
    ram.restrict(TABLES[2], PageFlags::ALL);
    ram.write(TABLES[2], ram.read(TABLES[2]) | A);
    ram.restrict(TABLES[2], PageFlags::READ);
    assert!(found(&ram, MARK).marked, "nothing is left to be set");
}

#[test]
fn tr_07_modes_large_pages_have_their_dirty_bit() {
    let ram = tables();
    ram.write(TABLES[2], ALL | PS);
    assert!(found(&ram, Wanted { set_dirty: true, ..WRITE }).marked);
    assert_eq!(bits(&ram), [A, A, A | D, 0]);
}

#[test]
fn tr_07_modes_without_paging_an_address_is_its_own() {
    let ram = tables();
    let paging = Paging::new(&ControlRegisters::default(), 40, Pdptes::default());
    let at = |gla| probe(&paging, &ram.map, gla, MARK);
    assert_eq!(at(PAGE + 5), Found { gpa: PAGE + 5, failure: None, marked: true });
    assert_eq!(at(0xF_0000).failure, Some(Failure::NoMemory));
}

/// Entries of a few kinds at all levels, in every mode of rights: this walk and that of the processor
/// agree.
#[test]
fn tr_08_it_allows_what_the_processor_does() {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut translated = 0;
    for _ in 0..200_000 {
        let ram_bits: [u64; 4] = std::array::from_fn(|_| next());
        let ram = SHARED.with(std::rc::Rc::clone);
        for (place, &table) in TABLES.iter().enumerate() {
            let target = TABLES.get(place + 1).copied().unwrap_or(PAGE);
            let random = ram_bits[place];
            let mut entry = target | ALL;
            // One bit in eight entries is not what it is in the others.
            for (shift, bit) in [(0, P), (3, RW), (6, US), (9, XD), (12, 1 << 51)] {
                if random >> shift & 7 == 0 {
                    entry ^= bit;
                }
            }
            ram.write(table, entry);
        }
        let bits = next();
        let registers = ControlRegisters {
            cr0: 1 << 31 | (bits & 1) << 16,
            cr3: TABLES[0],
            cr4: 1 << 5 | (bits >> 1 & 1) << 20 | (bits >> 2 & 1) << 21,
            efer: 1 << 10 | (bits >> 3 & 1) << 11,
            pkru: 0,
        };
        let paging = Paging::new(&registers, 40, Pdptes::default());
        let privilege = Privilege::ALL[(bits >> 4) as usize % 3];
        let kind = [AccessKind::Read, AccessKind::Write, AccessKind::Execute][bits as usize % 3];
        let wanted = Wanted {
            privilege,
            write: kind == AccessKind::Write,
            execute: kind == AccessKind::Execute,
            ..READ
        };
        let probed = probe(&paging, &ram.map, OFFSET, wanted);
        let walked = walk(&paging, &ram.map, OFFSET, Access { kind, privilege });
        assert_eq!(probed.failure.is_none(), walked.is_ok(), "{paging:?} {wanted:?}");
        if let Ok(page) = walked {
            assert_eq!(probed.gpa, page.gpa);
            translated += 1;
        }
    }
    assert!(translated > 10_000);
}

thread_local! {
    static SHARED: std::rc::Rc<Ram> = std::rc::Rc::new(tables());
}
