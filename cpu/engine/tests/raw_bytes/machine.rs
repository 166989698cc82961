//! RAM between canaries, filled with tables that are half right.
#![allow(unsafe_code)]

use std::sync::Arc;

use cpu_engine::{Exit, IO_DATA_LEN, Kick};
use cpu_mem::{HostPage, PAGE_SIZE, PageFlags, PhysMap};

use crate::random::Random;

/// Bytes of RAM, from guest-physical address 0. The last page is read-only.
pub const RAM: u64 = PAGES as u64 * PAGE_SIZE as u64;
const PAGES: usize = 48;
/// Pages on each side that belong to the host.
const CANARIES: usize = 4;
const CANARY: u8 = 0x5C;

/// Page tables, PML5 first.
pub const TABLES: u64 = 0x1000;
/// Interrupt descriptors.
pub const IDT: u64 = 0x7000;
/// Global descriptors.
pub const GDT: u64 = 0x8000;
/// Task state.
pub const TSS: u64 = 0x9000;
/// Code.
pub const CODE: u64 = 0xA000;

/// Guest memory and its surroundings.
pub struct Machine {
    /// The guest's part.
    pub map: Arc<PhysMap>,
    /// Of every processor.
    pub kick: Arc<Kick>,
    /// The guest's pages, and those before and behind them, in a map that no processor has.
    pages: Vec<HostPage>,
    canaries: Vec<HostPage>,
}

#[repr(C, align(4096))]
struct Block([[u8; PAGE_SIZE]; PAGES + 2 * CANARIES]);

impl Machine {
    /// RAM and canaries next to each other in host memory. The guest cannot write the page of the
    /// code if it is `fixed`.
    pub fn new(fixed: bool) -> Self {
        let block = Box::leak(Box::new(Block([[CANARY; PAGE_SIZE]; PAGES + 2 * CANARIES])));
        let start = std::ptr::from_mut(block).expose_provenance() as u64;
        let (map, host) = (Arc::new(PhysMap::new()), PhysMap::new());
        let (mut pages, mut canaries) = (Vec::new(), Vec::new());
        for number in 0..PAGES + 2 * CANARIES {
            let at = (number * PAGE_SIZE) as u64;
            // SAFETY: the block is leaked, and reached only through the two maps.
            unsafe { host.map_page(at, start + at, PageFlags::ALL) }.expect("mapped once");
            let page = host.page(at).expect("mapped just now");
            let Some(inside) = number.checked_sub(CANARIES).filter(|&page| page < PAGES) else {
                canaries.push(page);
                continue;
            };
            pages.push(page);
            let gpa = (inside * PAGE_SIZE) as u64;
            let flags = match inside {
                _ if inside == PAGES - 1 => PageFlags::READ,
                _ if fixed && gpa == CODE => PageFlags::READ | PageFlags::EXECUTE,
                _ => PageFlags::ALL,
            };
            // SAFETY: as above.
            unsafe { map.map_page(gpa, start + at, flags) }.expect("each page is mapped once");
        }
        Machine { map, kick: Arc::new(Kick::new()), pages, canaries }
    }

    /// Random memory, with tables of random but plausible entries in their places.
    pub fn fill(&mut self, random: &mut Random) {
        for page in &self.pages[..PAGES - 1] {
            let same = random.chance(50).then_some(0);
            for at in (0..PAGE_SIZE).step_by(8) {
                page.store(at, same.unwrap_or_else(|| random.next()));
            }
        }
        self.fill_tables(random);
        self.fill_descriptors(random);
        for at in (4..104).step_by(8) {
            self.write_u64(TSS + at, random.below(RAM) & !7);
        }
    }

    /// Six pages that are tables of each other and of the first megabyte.
    fn fill_tables(&mut self, random: &mut Random) {
        for level in 0..6 {
            for index in 0..512 {
                let next = TABLES + (level + 1) * 0x1000;
                let target = match random.below(32) {
                    0 => random.next() & 0x800F_FFFF_FFFF_FFFF,
                    1 => random.below(RAM + 0x4000),
                    2 => 1 << random.below(64),
                    _ if level == 5 || random.chance(5) => (index << 12) % RAM,
                    _ => next.min(TABLES + 0x5000),
                };
                let flags = if random.chance(90) { 7 } else { random.below(0x1000) };
                self.write_u64(TABLES + level * 0x1000 + index * 8, target & !0xFFF | flags);
            }
        }
    }

    fn fill_descriptors(&mut self, random: &mut Random) {
        for index in 0..512 {
            let selector = random.below(32) << 3 | random.pick(&[0, 0, 3]);
            let offset = CODE + random.below(0x1000);
            let any = random.next() as u8;
            let kind = random.pick(&[0x8E, 0xEE, 0x8F, 0x86, 0x87, 0xE5, 0xEC, any]);
            let ist = if random.chance(10) { random.below(8) } else { 0 };
            let gate = offset & 0xFFFF | selector << 16 | ist << 32 | u64::from(kind) << 40;
            self.write_u64(IDT + index * 8, if random.chance(90) { gate } else { 0 });
            let access: u8 =
                random.pick(&[0x9B, 0x93, 0xFB, 0xF3, 0x97, 0x89, 0x8B, 0x82, 0x8C, 0x85, 0x9F]);
            let access = if random.chance(90) { access } else { random.next() as u8 };
            let flags = random.pick(&[0xC, 0xA, 0x4, 0x0]);
            let descriptor = 0xFFFF
                | random.below(RAM) << 16
                | u64::from(access) << 40
                | 0xF << 48
                | flags << 52;
            let gate_or_segment = if random.chance(15) { gate } else { descriptor };
            self.write_u64(GDT + index * 8, gate_or_segment);
        }
    }

    /// Writes an aligned quadword of RAM.
    pub fn write_u64(&mut self, gpa: u64, value: u64) {
        let (page, at) = (gpa as usize / PAGE_SIZE, gpa as usize % PAGE_SIZE);
        self.pages[page % PAGES].store(at, value);
    }

    /// Writes a byte, if it is in RAM.
    pub fn write_byte(&self, gpa: u64, byte: u8) {
        if gpa < RAM - PAGE_SIZE as u64 {
            self.pages[gpa as usize / PAGE_SIZE].store(gpa as usize % PAGE_SIZE, byte);
        }
    }

    /// All RAM.
    pub fn memory(&self) -> Vec<u8> {
        let mut bytes = vec![0; RAM as usize];
        for (page, bytes) in self.pages.iter().zip(bytes.chunks_mut(PAGE_SIZE)) {
            page.copy_out(0, bytes);
        }
        bytes
    }

    /// The host's own memory is as it was.
    pub fn check_canaries(&self) {
        let mut bytes = [0; PAGE_SIZE];
        for page in self.canaries.iter().chain(self.pages.last()) {
            page.copy_out(0, &mut bytes);
            assert!(bytes.iter().all(|&byte| byte == CANARY), "memory outside was written");
        }
    }
}

/// An exit says what a client can act on.
pub fn check_exit(machine: &Machine, exit: &Exit) {
    match exit {
        Exit::Io(io) => {
            assert!(matches!(io.size, 1 | 2 | 4), "size {}", io.size);
            let bytes = u64::from(io.size) * u64::from(io.count);
            assert!(bytes > 0 && bytes <= IO_DATA_LEN as u64, "{bytes} bytes");
        }
        Exit::Mmio(mmio) => {
            assert!((1..=8).contains(&mmio.len), "{} bytes", mmio.len);
            let last = mmio.gpa + u64::from(mmio.len) - 1;
            assert_eq!(mmio.gpa >> 12, last >> 12, "crosses a page");
            let page = machine.map.page(mmio.gpa);
            let writable = page.is_some_and(|page| page.flags().contains(PageFlags::WRITE));
            assert!(page.is_none() || (mmio.write && !writable), "RAM at {:#x}", mmio.gpa);
        }
        Exit::EmulationFailure { len, .. } => assert!(*len <= 15),
        _ => {}
    }
}
