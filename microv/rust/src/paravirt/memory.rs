//! Structures in guest memory that the guest reads while they are written: a version, odd meanwhile,
//! is before and behind the change.

use cpu_mem::{HostPage, PageFlags, PhysMap};
use cpu_paravirt::clock::version_while_written;

const PAGE_SIZE: u64 = cpu_mem::PAGE_SIZE as u64;

/// Bytes of guest memory within a page.
#[derive(Clone, Copy, Debug)]
pub struct Structure {
    page: HostPage,
    offset: usize,
}

impl Structure {
    /// `size` bytes at `gpa`, to be written. None where no such memory is, or where it crosses a page.
    pub fn at(mem: &PhysMap, gpa: u64, size: usize) -> Option<Structure> {
        let offset = (gpa % PAGE_SIZE) as usize;
        if offset + size > cpu_mem::PAGE_SIZE {
            return None;
        }
        let page = mem.page_to_write(gpa)?;
        let writable = page.flags().contains(PageFlags::WRITE);
        writable.then_some(Structure { page, offset })
    }

    /// Whether there are `size` bytes at `gpa` that can be written. Writes nothing.
    pub fn exists(mem: &PhysMap, gpa: u64, size: usize) -> bool {
        let fits = (gpa % PAGE_SIZE) as usize + size <= cpu_mem::PAGE_SIZE;
        let writable = |page: HostPage| page.flags().contains(PageFlags::WRITE);
        fits && mem.page(gpa).is_some_and(writable)
    }

    /// A byte.
    pub fn byte(&self, offset: usize) -> u8 {
        self.page.load(self.offset + offset)
    }

    /// 32 bits.
    pub fn u32(&self, offset: usize) -> u32 {
        self.page.load(self.offset + offset)
    }

    /// 64 bits.
    pub fn u64(&self, offset: usize) -> u64 {
        self.page.load(self.offset + offset)
    }

    /// Replaces a byte in one locked step; returns the old one.
    pub fn swap_byte(&self, offset: usize, byte: u8) -> u8 {
        self.page.update(self.offset + offset, |_| byte)
    }

    /// Sets bits of a byte in one locked step; what it was.
    pub fn set_bits(&self, offset: usize, bits: u8) -> u8 {
        self.page.update(self.offset + offset, |old: u8| old | bits)
    }

    /// Writes bytes.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.page.copy_in(self.offset + offset, bytes);
    }

    /// Lets `change` write while the version (32 bits) at `version` is odd. Stores to guest memory
    /// keep their order, as on the guest's processor.
    pub fn change(&self, version: usize, change: impl FnOnce(&Structure)) {
        let at = self.offset + version;
        let odd = version_while_written(self.page.load(at));
        self.page.store(at, odd);
        change(self);
        self.page.store(at, odd.wrapping_add(1));
    }
}

/// Writes bytes that may cross pages; false where one of the pages is not there. Then those before it
/// are written.
pub fn copy_in(mem: &PhysMap, gpa: u64, mut bytes: &[u8]) -> bool {
    let mut at = gpa;
    while !bytes.is_empty() {
        let rest = cpu_mem::PAGE_SIZE - (at % PAGE_SIZE) as usize;
        let (now, later) = bytes.split_at(rest.min(bytes.len()));
        let Some(memory) = Structure::at(mem, at, now.len()) else { return false };
        memory.write(0, now);
        at = at.wrapping_add(now.len() as u64);
        bytes = later;
    }
    true
}

/// Reads bytes that may cross pages; false where one of the pages is not there.
pub fn copy_out(mem: &PhysMap, gpa: u64, bytes: &mut [u8]) -> bool {
    let mut at = gpa;
    for byte in bytes {
        let Some(page) = mem.page(at) else { return false };
        *byte = page.load((at % PAGE_SIZE) as usize);
        at = at.wrapping_add(1);
    }
    true
}

/// Whether there are `size` bytes, which may cross pages, that can be written. Writes nothing.
pub fn exists(mem: &PhysMap, gpa: u64, size: usize) -> bool {
    let all = 0..size as u64;
    all.into_iter().all(|at| Structure::exists(mem, gpa.wrapping_add(at), 1))
}
