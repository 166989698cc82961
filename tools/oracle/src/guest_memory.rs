//! Physical memory of the guest, with page tables in it.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed};
use std::sync::Arc;

use cpu_mem::{HostPage, PAGE_SIZE, PageFlags, PhysMap};

/// Linear address of physical address 0, for the supervisor.
pub const KERNEL: u64 = 0xFFFF_8000_0000_0000;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// RAM of one guest; lives as long as the process.
pub struct GuestMemory {
    map: Arc<PhysMap>,
    root: u64,
    next_table: u64,
}

impl GuestMemory {
    /// RAM in these ranges: first byte, number of pages.
    #[must_use]
    pub fn new(ranges: &[(u64, usize)]) -> Self {
        let map = Arc::new(PhysMap::new());
        let pages = ranges.iter().flat_map(|&(at, pages)| (at..).step_by(PAGE_SIZE).take(pages));
        for gpa in pages {
            let layout = Layout::from_size_align(PAGE_SIZE, PAGE_SIZE).expect("a page");
            // SAFETY: the layout is not empty; the page is never freed and reached only through
            // the map.
            unsafe {
                let page = alloc_zeroed(layout).expose_provenance() as u64;
                map.map_page(gpa, page, PageFlags::ALL).expect("the ranges do not overlap");
            }
        }
        GuestMemory { map, root: 0, next_table: 0 }
    }

    /// The physical map.
    #[must_use]
    pub fn map(&self) -> Arc<PhysMap> {
        self.map.clone()
    }

    /// The page at a physical address.
    #[must_use]
    pub fn page(&self, gpa: u64) -> Option<HostPage> {
        self.map.page(gpa)
    }

    /// Starts page tables at a physical page; further ones follow it.
    pub fn build_page_tables(&mut self, root: u64) {
        self.root = root;
        self.next_table = root + PAGE_SIZE as u64;
    }

    /// Sets the page-table entry of a linear page.
    pub fn map_page(&mut self, linear: u64, entry: u64) {
        let mut table = self.root;
        for level in [39, 30, 21] {
            let at = table + (linear >> level & 511) * 8;
            if self.read_u64(at) == 0 {
                self.write_u64(at, self.next_table | 7);
                self.next_table += PAGE_SIZE as u64;
            }
            table = self.read_u64(at) & ADDRESS;
        }
        self.write_u64(table + (linear >> 12 & 511) * 8, entry);
    }

    /// Writes bytes, which may cross pages.
    pub fn write(&mut self, gpa: u64, bytes: &[u8]) {
        let mut at = gpa;
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = at as usize % PAGE_SIZE;
            let (now, later) = rest.split_at(rest.len().min(PAGE_SIZE - offset));
            self.map.page(at).expect("RAM").copy_in(offset, now);
            at += now.len() as u64;
            rest = later;
        }
    }

    /// Fills bytes.
    pub fn fill(&mut self, gpa: u64, len: usize, byte: u8) {
        for at in (gpa..).take(len) {
            self.map.page(at).expect("RAM").store(at as usize % PAGE_SIZE, byte);
        }
    }

    /// Writes an aligned quadword.
    pub fn write_u64(&mut self, gpa: u64, value: u64) {
        self.map.page(gpa).expect("RAM").store(gpa as usize % PAGE_SIZE, value);
    }

    /// Reads an aligned quadword.
    #[must_use]
    pub fn read_u64(&self, gpa: u64) -> u64 {
        self.map.page(gpa).expect("RAM").load(gpa as usize % PAGE_SIZE)
    }
}
