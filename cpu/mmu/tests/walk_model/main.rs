//! The page walk against a second, deliberately simple one, over random paging structures.

#[path = "../ram/mod.rs"]
mod ram;

mod model;

use std::collections::BTreeMap;

use cpu_mem::{PAGE_SIZE, PageFlags};
use cpu_mmu::{
    Access, AccessKind, ControlRegisters, PageFault, Paging, Pdptes, Privilege, Translation,
    translate, walk,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use model::{Machine, Memory, Outcome};
use ram::Ram;

/// Pages of paging structures; each may serve at every level. The last is read-only.
const TABLES: [u64; 6] = [0x1000, 0x2000, 0x3000, 0x7_f000, 0x40_0000, 0x80_0000];
const READ_ONLY: u64 = TABLES[5];

#[derive(Clone, Debug)]
struct Case {
    registers: ControlRegisters,
    max_phy_addr: u8,
    pdptes: [u64; 4],
    /// As AMD reads them.
    pdptes_in_memory: bool,
    /// What the tables hold, over and over; a prime length, so that tables differ.
    entries: Vec<u64>,
    glas: Vec<u64>,
}

impl Case {
    fn pdptes(&self) -> Pdptes {
        if self.pdptes_in_memory { Pdptes::InMemory } else { Pdptes::Registers(self.pdptes) }
    }
}

/// An entry that mostly leads on: P and the permissive bits set more often than not, reserved
/// bits rarely.
fn entry() -> impl Strategy<Value = u64> {
    let often = |bit: u32| prop::bool::weighted(0.9).prop_map(move |set| u64::from(set) << bit);
    let rarely = |bit: u32| prop::bool::weighted(0.04).prop_map(move |set| u64::from(set) << bit);
    let table = prop::sample::select(TABLES.to_vec());
    let address = prop_oneof![
        16 => table,
        1 => Just(0x9000),
        2 => any::<u64>().prop_map(|bits| bits & 0x3f_c000_0000),
    ];
    let noise = any::<u64>().prop_map(|bits| bits & 0xf78);
    let large = prop::bool::weighted(0.15).prop_map(|set| u64::from(set) << 7);
    let high = prop_oneof![6 => Just(32..52_u32), 1 => Just(52..63)]
        .prop_flat_map(|range| range)
        .prop_flat_map(rarely);
    let flags = (often(0), often(1), often(2), rarely(63), rarely(13), rarely(20), rarely(21));
    (address, noise, large, high, flags).prop_map(
        |(address, noise, large, high, (present, write, user, nx, low, middle, top))| {
            address | noise | large | high | present | write | user | nx | low | middle | top
        },
    )
}

/// Registers of every paging mode; no bits but those of paging.
fn registers() -> impl Strategy<Value = ControlRegisters> {
    let modes = prop_oneof![
        1 => Just((false, 0, 0)),
        4 => Just((true, 0, 0)),
        4 => Just((true, 1 << 5, 0)),
        4 => Just((true, 1 << 5, 1 << 10)),
        4 => Just((true, 1 << 5 | 1 << 12, 1 << 10)),
    ];
    let cr3 = prop_oneof![20 => prop::sample::select(TABLES.to_vec()), 1 => Just(0x9000)];
    (modes, cr3, any::<bool>(), any::<u64>(), any::<bool>(), any::<u32>()).prop_map(
        |((paging, mode_cr4, mode_efer), cr3, wp, cr4, nxe, pkru)| ControlRegisters {
            cr0: u64::from(paging) << 31 | u64::from(wp) << 16 | 1,
            cr3,
            cr4: mode_cr4 | (cr4 & (1 << 4 | 1 << 7 | 1 << 20 | 1 << 21 | 1 << 22)),
            efer: mode_efer | u64::from(nxe) << 11,
            pkru,
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let pdpte =
        prop_oneof![8 => prop::sample::select(TABLES.to_vec()).prop_map(|t| t | 1), 1 => Just(0)];
    let gla = prop_oneof![any::<u64>(), any::<u64>().prop_map(|gla| gla & 0xffff_ffff)];
    (
        registers(),
        prop_oneof![Just(32), Just(36), Just(40), Just(46), Just(52)],
        (prop::array::uniform4(pdpte), any::<bool>()),
        prop::collection::vec(entry(), 31),
        prop::collection::vec(gla, 8),
    )
        .prop_map(|(registers, max_phy_addr, (pdptes, pdptes_in_memory), entries, glas)| {
            Case { registers, max_phy_addr, pdptes, pdptes_in_memory, entries, glas }
        })
}

/// The tables of a case, in guest memory.
fn ram_of(case: &Case) -> Ram {
    let mut ram = Ram::at(TABLES[..5].iter().copied());
    let mut pattern = case.entries.iter().cycle();
    let mut fill = |ram: &Ram, table: u64| {
        for place in (table..table + PAGE_SIZE as u64).step_by(8) {
            ram.write(place, *pattern.next().expect("endless"));
        }
    };
    TABLES[..5].iter().for_each(|&table| fill(&ram, table));
    ram.add(READ_ONLY, PageFlags::ALL);
    fill(&ram, READ_ONLY);
    ram.restrict(READ_ONLY, PageFlags::READ);
    ram
}

fn memory_of(ram: &Ram) -> Memory {
    let contents = |&table: &u64| {
        let mut bytes = vec![0; PAGE_SIZE];
        ram.page(table).copy_out(0, &mut bytes);
        (table, bytes)
    };
    Memory { pages: TABLES.iter().map(contents).collect(), read_only: READ_ONLY }
}

fn outcome(result: Result<Translation, PageFault>, gla: u64) -> Outcome {
    match result {
        Ok(page) => Outcome::Page {
            gpa: page.gpa,
            size: page.page_size.bytes(),
            global: page.global,
            dirty: page.dirty,
        },
        Err(fault) => {
            assert_eq!(fault.gla, gla);
            Outcome::Fault { error_code: fault.error_code }
        }
    }
}

fn accesses() -> impl Iterator<Item = Access> {
    let kinds = [AccessKind::Read, AccessKind::Execute, AccessKind::Write];
    let of_kind = |kind| Privilege::ALL.map(|privilege| Access { kind, privilege });
    kinds.into_iter().flat_map(of_kind)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn walks_agree_in_outcome_and_in_accessed_and_dirty_bits(case in case()) {
        let paging = Paging::new(&case.registers, case.max_phy_addr, case.pdptes());
        let machine = Machine {
            registers: case.registers,
            max_phy_addr: u32::from(case.max_phy_addr),
            pdptes: case.pdptes,
            pdptes_in_memory: case.pdptes_in_memory,
        };
        let ram = ram_of(&case);
        let mut memory = memory_of(&ram);
        for &gla in &case.glas {
            for access in accesses() {
                let expected = machine.walk(&mut memory, gla, access);
                let found = outcome(walk(&paging, &ram.map, gla, access), gla);
                prop_assert_eq!(found, expected, "{:?} of {:#x}", access, gla);
            }
        }
        prop_assert!(memory == memory_of(&ram), "accessed and dirty bits differ");
    }

    #[test]
    fn translate_finds_what_a_walk_finds_and_changes_nothing(case in case()) {
        let paging = Paging::new(&case.registers, case.max_phy_addr, case.pdptes());
        let ram = ram_of(&case);
        let before = memory_of(&ram);
        let probed: Vec<_> =
            case.glas.iter().map(|&gla| translate(&paging, &ram.map, gla)).collect();
        prop_assert!(before == memory_of(&ram), "translate wrote to memory");
        for (&gla, probed) in case.glas.iter().zip(probed) {
            for access in accesses() {
                let Ok(walked) = walk(&paging, &ram.map, gla, access) else { continue };
                let probed = probed.expect("what a walk finds is present");
                prop_assert_eq!(walked.gpa, probed.gpa);
                prop_assert_eq!(walked.page_size, probed.page_size);
                prop_assert!(probed.rights(access.privilege).allows(access.kind));
            }
        }
    }

    #[test]
    fn rights_say_which_accesses_a_walk_allows(case in case()) {
        let paging = Paging::new(&case.registers, case.max_phy_addr, case.pdptes());
        let ram = ram_of(&case);
        for &gla in &case.glas {
            let Ok(probed) = translate(&paging, &ram.map, gla) else { continue };
            for access in accesses() {
                let allowed = probed.rights(access.privilege).allows(access.kind);
                prop_assert_eq!(walk(&paging, &ram.map, gla, access).is_ok(), allowed);
            }
        }
    }
}

/// The random tables are worth something only if every outcome occurs.
#[test]
fn random_tables_reach_every_outcome_in_every_mode() {
    let mut seen = BTreeMap::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..1500 {
        let case = case().new_tree(&mut runner).expect("no rejects").current();
        let paging = Paging::new(&case.registers, case.max_phy_addr, case.pdptes());
        let ram = ram_of(&case);
        for &gla in &case.glas {
            for access in accesses() {
                let found = match outcome(walk(&paging, &ram.map, gla, access), gla) {
                    Outcome::Page { size, dirty, .. } => format!("page {size:#x} dirty {dirty}"),
                    Outcome::Fault { error_code } => format!("fault {error_code:#07b}"),
                };
                *seen.entry((format!("{:?}", paging.mode), found)).or_insert(0) += 1;
            }
        }
    }
    let missing = |mode: &str, outcomes: &[String]| {
        let seen = |outcome: &&String| !seen.contains_key(&(mode.to_string(), (*outcome).clone()));
        outcomes.iter().filter(seen).cloned().collect::<Vec<_>>()
    };
    for (mode, sizes) in [
        ("Legacy", &["0x1000", "0x400000"][..]),
        ("Pae", &["0x1000", "0x200000"]),
        ("Level4", &["0x1000", "0x200000", "0x40000000"]),
        ("Level5", &["0x1000", "0x200000", "0x40000000"]),
    ] {
        let pages = sizes
            .iter()
            .flat_map(|size| [true, false].map(|dirty| format!("page {size} dirty {dirty}")));
        // Not present, protection, reserved; each for every kind of access and both privileges.
        let faults = (0..32_u32)
            .filter(|code| code & 0b1001 != 0b1000 && code & 0b1_0010 != 0b1_0010)
            .map(|code| format!("fault {code:#07b}"));
        let wanted: Vec<_> = pages.chain(faults).collect();
        assert_eq!(missing(mode, &wanted), Vec::<String>::new(), "mode {mode}");
    }
}
