//! Guest memory made of pages of this process.
//!
//! `unsafe`: the promise to [`PhysMap::map_page`].
#![allow(unsafe_code, dead_code, reason = "each test crate uses a part of it")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;

use cpu_mem::{HostPage, PAGE_SIZE, PageFlags, PhysMap};

/// A guest-physical map with the pages behind it.
pub struct Ram {
    pub map: PhysMap,
    /// By guest-physical address.
    pages: BTreeMap<u64, *mut u8>,
}

impl Ram {
    /// One zeroed page, with all rights, at each guest-physical address.
    pub fn at(gpas: impl IntoIterator<Item = u64>) -> Self {
        let mut ram = Self { map: PhysMap::new(), pages: BTreeMap::new() };
        gpas.into_iter().for_each(|gpa| ram.add(gpa, PageFlags::ALL));
        ram
    }

    /// Adds a zeroed page.
    pub fn add(&mut self, gpa: u64, flags: PageFlags) {
        // SAFETY: the layout is not empty.
        let page = unsafe { alloc_zeroed(layout()) };
        assert!(!page.is_null());
        self.pages.insert(gpa, page);
        let hva = page.expose_provenance() as u64;
        // SAFETY: the page lives as long as the map; tests keep no `HostPage` beyond it.
        unsafe { self.map.map_page(gpa, hva, flags) }.expect("vacant");
    }

    /// Gives a page of ours other rights.
    pub fn restrict(&self, gpa: u64, flags: PageFlags) {
        let page = self.pages[&gpa];
        self.map.unmap_page(gpa).expect("mapped");
        let hva = page.expose_provenance() as u64;
        // SAFETY: as in `add`.
        unsafe { self.map.map_page(gpa, hva, flags) }.expect("vacant");
    }

    pub fn page(&self, gpa: u64) -> HostPage {
        self.map.page(gpa).expect("mapped")
    }

    pub fn read(&self, gpa: u64) -> u64 {
        self.page(gpa).load(gpa as usize % PAGE_SIZE)
    }

    pub fn read_u32(&self, gpa: u64) -> u32 {
        self.page(gpa).load(gpa as usize % PAGE_SIZE)
    }

    pub fn write(&self, gpa: u64, value: u64) {
        self.page(gpa).store(gpa as usize % PAGE_SIZE, value);
    }

    pub fn write_u32(&self, gpa: u64, value: u32) {
        self.page(gpa).store(gpa as usize % PAGE_SIZE, value);
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        self.map = PhysMap::new();
        for &page in self.pages.values() {
            // SAFETY: from `alloc_zeroed` with this layout; the map that used it is gone.
            unsafe { dealloc(page, layout()) };
        }
    }
}

fn layout() -> Layout {
    Layout::from_size_align(PAGE_SIZE, PAGE_SIZE).expect("a valid layout")
}
