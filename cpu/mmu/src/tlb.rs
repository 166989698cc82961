//! The translation cache of one vCPU ("Caching Translation Information").
//!
//! Direct-mapped, 1024 pages of 4 KiB for each [`Privilege`]; larger pages enter in pieces. An
//! entry has one tag for each kind of access, equal to the page's linear address if that access
//! is allowed, so a hit is one compare and gives the host page.
//!
//! Laws:
//! - The write tag is set only by a write, once the dirty bit is set and where the guest-physical
//!   page is writable. [`Tlb::trap_writes`] takes it away again, and then the next write is seen.
//! - Entries hold decoded rights: a change of CR0.PG or WP, CR4.PSE, PAE, PGE, LA57, SMEP or SMAP,
//!   or EFER.LMA or NXE calls for [`Tlb::flush_all`].
//! - Entries hold host pages: they are flushed before an unmapping of guest-physical memory is
//!   acknowledged.

use cpu_mem::{HostPage, PageFlags};

use crate::{Access, AccessKind, PageSize, Privilege, Translation};

const PAGES_PER_PRIVILEGE: usize = 1024;
const ENTRIES: usize = PAGES_PER_PRIVILEGE * Privilege::ALL.len();
const PAGE_MASK: u64 = !(cpu_mem::PAGE_SIZE as u64 - 1);

/// A tag that no page address equals.
const NO_PAGE: u64 = 1;

/// What a hit needs; tags are linear page addresses or `NO_PAGE`.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Entry {
    read: u64,
    write: u64,
    execute: u64,
    page: Option<HostPage>,
}

/// What a flush needs to know of an entry.
#[derive(Clone, Copy)]
struct Origin {
    gla: u64,
    gpa: u64,
    page_size: PageSize,
    global: bool,
    /// The entry is in the list of filled ones, maybe emptied since.
    listed: bool,
}

/// The translation cache of one vCPU.
pub struct Tlb {
    entries: Box<[Entry; ENTRIES]>,
    origins: Box<[Origin; ENTRIES]>,
    /// Entries that may be in use, so that a flush does not visit all.
    filled: Vec<u16>,
    /// Linear addresses (first, last) that pieces of larger pages came from.
    large: Option<(u64, u64)>,
}

impl Tlb {
    /// An empty cache.
    pub fn new() -> Self {
        Self {
            entries: Box::new([EMPTY; ENTRIES]),
            origins: Box::new([NOWHERE; ENTRIES]),
            filled: Vec::with_capacity(ENTRIES),
            large: None,
        }
    }

    /// The page to load from, if the access is known to be allowed.
    #[inline(always)]
    pub fn read(&self, privilege: Privilege, gla: u64) -> Option<HostPage> {
        let entry = &self.entries[index(privilege, gla)];
        if entry.read == gla & PAGE_MASK { entry.page } else { None }
    }

    /// The page to store to, if the access is known to be allowed.
    #[inline(always)]
    pub fn write(&self, privilege: Privilege, gla: u64) -> Option<HostPage> {
        let entry = &self.entries[index(privilege, gla)];
        if entry.write == gla & PAGE_MASK { entry.page } else { None }
    }

    /// The page to fetch instructions from, if the access is known to be allowed.
    #[inline(always)]
    pub fn execute(&self, privilege: Privilege, gla: u64) -> Option<HostPage> {
        let entry = &self.entries[index(privilege, gla)];
        if entry.execute == gla & PAGE_MASK { entry.page } else { None }
    }

    /// Guest-physical address behind `gla`, if any access to it is cached.
    pub fn gpa(&self, privilege: Privilege, gla: u64) -> Option<u64> {
        let index = index(privilege, gla);
        let origin = &self.origins[index];
        let cached = self.entries[index].page.is_some() && origin.gla == gla & PAGE_MASK;
        cached.then_some(origin.gpa | (gla & !PAGE_MASK))
    }

    /// Remembers what [`crate::walk`] returned for this access, and the page behind it.
    pub fn insert(&mut self, access: Access, gla: u64, translation: &Translation, page: HostPage) {
        let index = index(access.privilege, gla);
        let gla = gla & PAGE_MASK;
        let rights = translation.rights(access.privilege);
        let tag = |kind, flag| {
            let allowed = rights.allows(kind) && page.flags().contains(flag);
            if allowed { gla } else { NO_PAGE }
        };
        let write_seen = access.kind == AccessKind::Write && translation.dirty;
        self.entries[index] = Entry {
            read: tag(AccessKind::Read, PageFlags::READ),
            write: if write_seen { tag(AccessKind::Write, PageFlags::WRITE) } else { NO_PAGE },
            execute: tag(AccessKind::Execute, PageFlags::EXECUTE),
            page: Some(page),
        };
        if !self.origins[index].listed {
            self.filled.push(index as u16);
        }
        self.origins[index] = Origin {
            gla,
            gpa: translation.gpa & PAGE_MASK,
            page_size: translation.page_size,
            global: translation.global,
            listed: true,
        };
        if translation.page_size != PageSize::Size4K {
            self.widen_large(gla, translation.page_size.bytes());
        }
    }

    /// Forgets everything, global pages as well.
    pub fn flush_all(&mut self) {
        self.retain(|_| false);
        self.large = None;
    }

    /// Forgets everything but global pages: a write of CR3.
    pub fn flush_non_global(&mut self) {
        self.retain(|origin| origin.global);
    }

    /// Forgets the page around `gla`, as INVLPG does: global or not, and every piece of it if it
    /// is a large one.
    pub fn flush_page(&mut self, gla: u64) {
        let inside_large = self.large.is_some_and(|(first, last)| (first..=last).contains(&gla));
        if inside_large {
            self.retain(|origin| (origin.gla ^ gla) & !(origin.page_size.bytes() - 1) != 0);
            return;
        }
        for privilege in Privilege::ALL {
            let index = index(privilege, gla);
            if self.origins[index].gla == gla & PAGE_MASK {
                self.entries[index] = EMPTY;
            }
        }
    }

    /// Makes the next write to a guest-physical page (any address in it) miss, whatever linear
    /// address it uses: the page holds decoded instructions now.
    pub fn trap_writes(&mut self, gpa: u64) {
        for &index in &self.filled {
            if self.origins[usize::from(index)].gpa == gpa & PAGE_MASK {
                self.entries[usize::from(index)].write = NO_PAGE;
            }
        }
    }

    fn retain(&mut self, keep: impl Fn(&Origin) -> bool) {
        let Self { entries, origins, filled, .. } = self;
        filled.retain(|&index| {
            let index = usize::from(index);
            let kept = entries[index].page.is_some() && keep(&origins[index]);
            if !kept {
                entries[index] = EMPTY;
                origins[index] = NOWHERE;
            }
            kept
        });
    }

    fn widen_large(&mut self, gla: u64, size_bytes: u64) {
        let first = gla & !(size_bytes - 1);
        let last = first | (size_bytes - 1);
        let (low, high) = self.large.unwrap_or((first, last));
        self.large = Some((low.min(first), high.max(last)));
    }
}

impl Default for Tlb {
    fn default() -> Self {
        Self::new()
    }
}

const EMPTY: Entry = Entry { read: NO_PAGE, write: NO_PAGE, execute: NO_PAGE, page: None };

const NOWHERE: Origin = Origin {
    gla: NO_PAGE,
    gpa: NO_PAGE,
    page_size: PageSize::Size4K,
    global: false,
    listed: false,
};

#[inline(always)]
fn index(privilege: Privilege, gla: u64) -> usize {
    privilege as usize * PAGES_PER_PRIVILEGE + (gla >> 12) as usize % PAGES_PER_PRIVILEGE
}
