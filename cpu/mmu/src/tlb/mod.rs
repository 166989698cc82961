//! The translation cache of one vCPU ("Caching Translation Information").
//!
//! Direct-mapped, 16384 pages of 4 KiB for each [`Privilege`]; larger pages enter in pieces. An
//! entry has one tag for each kind of access, equal to the page's linear address if that access
//! is allowed, so a hit is one compare and gives the host page.
//!
//! Process-context identifiers have a set of entries each: the active one is looked at, the least
//! recently used one makes room. Global pages enter the set in which they are used, and leave all
//! sets together.
//!
//! A set knows of which address space (root of the paging structures, CR3) its entries are: an identifier
//! may be used for several without a flush between.
//!
//! Laws:
//! - The write tag is set only where the dirty bit is set, the guest-physical page is writable, and
//!   nobody waits for the next write. [`Tlb::trap_writes`] takes it away again.
//! - Entries hold decoded rights: a change of CR0.PG or WP, CR4.PSE, PAE, PGE, LA57, SMEP, SMAP
//!   or PKE, or EFER.LMA or NXE calls for [`Tlb::flush_all`]. A change of PKRU is told to
//!   [`Tlb::set_pkru`]; a parked set hears of it when it becomes active.
//! - Entries hold host pages: they are flushed before an unmapping of guest-physical memory is
//!   acknowledged.

mod forget;
mod large;
mod origin;
mod set;
mod stack_page;
mod table;

use cpu_mem::HostPage;

pub use self::forget::Forget;
use self::forget::Space;
use self::set::Set;
pub use self::table::layout;
use self::table::{EXECUTE, PAGE_MASK, READ, WRITE, index};
use crate::table_cache::TableCache;
use crate::{Access, PageSize, Privilege, Translation};

/// Sets besides the active one. Linux uses six identifiers, twice as many with page-table isolation.
const MAX_PARKED: usize = 7;
/// Ranges that are remembered one by one.
const MAX_RANGES: usize = 64;

/// The translation cache of one vCPU.
pub struct Tlb {
    active: Set,
    /// Where the present paging structures begin.
    root: u64,
    /// Least recently used first.
    parked: Vec<Set>,
    flushed: Flushed,
    /// Of the active identifier.
    pub(crate) tables: TableCache,
}

/// What left the cache, for whoever keeps what was fetched through it.
#[derive(Debug, Default)]
pub struct Flushed {
    /// Everything.
    pub all: bool,
    /// First of all another identifier became the active one.
    pub activated: Option<u16>,
    /// Everything of the active identifier but global pages.
    pub non_global: bool,
    /// What is between these linear addresses (first, last), of any identifier.
    pub ranges: Vec<(u64, u64)>,
    /// Something of other identifiers.
    pub parked: bool,
}

impl Flushed {
    fn any(&self) -> bool {
        self.all
            || self.activated.is_some()
            || self.non_global
            || self.parked
            || !self.ranges.is_empty()
    }

    fn activate(&mut self, pcid: u16) {
        self.all |= self.non_global || !self.ranges.is_empty();
        self.activated = Some(pcid);
    }

    fn range(&mut self, first: u64, last: u64) {
        if self.ranges.len() < MAX_RANGES {
            self.ranges.push((first, last));
        } else {
            self.all = true;
        }
    }
}

impl Tlb {
    /// An empty cache, identifier 0 and the address space at 0 active.
    pub fn new() -> Self {
        Self {
            active: Set::new(0, Space::Of(0)),
            root: 0,
            parked: Vec::new(),
            flushed: Flushed::default(),
            tables: TableCache::new(),
        }
    }

    /// The page to load from, if the access is known to be allowed.
    #[inline(always)]
    pub fn read(&self, privilege: Privilege, gla: u64) -> Option<HostPage> {
        self.active.hit(privilege, gla, READ)
    }

    /// The page to store to, if the access is known to be allowed.
    #[inline(always)]
    pub fn write(&self, privilege: Privilege, gla: u64) -> Option<HostPage> {
        self.active.hit(privilege, gla, WRITE)
    }

    /// The page to fetch instructions from, if the access is known to be allowed.
    #[inline(always)]
    pub fn execute(&self, privilege: Privilege, gla: u64) -> Option<HostPage> {
        self.active.hit(privilege, gla, EXECUTE)
    }

    /// Where the entries of a privilege are while no other identifier is activated; what they mean
    /// says [`layout`].
    #[inline(always)]
    #[must_use]
    pub fn table(&self, privilege: Privilege) -> *const u8 {
        self.active.table.start(privilege)
    }

    /// Guest-physical address behind `gla`, if any access to it is cached.
    pub fn gpa(&self, privilege: Privilege, gla: u64) -> Option<u64> {
        let origin = self.active.origin_of(index(privilege, gla), gla)?;
        self.active.pages.get(index(privilege, gla))?;
        Some(origin.gpa | (gla & !PAGE_MASK))
    }

    /// Remembers what [`crate::walk`] returned for this access, and the page behind it. `writes`: nobody
    /// wants to see the next write.
    pub fn insert(
        &mut self,
        access: Access,
        gla: u64,
        translation: &Translation,
        page: HostPage,
        writes: bool,
    ) {
        if access.privilege != Privilege::UserAligned {
            self.active.insert(access.privilege, gla, translation, page, writes);
        }
    }

    /// Forgets what [`Self::insert`] was told for this page and privilege.
    pub fn forget(&mut self, privilege: Privilege, gla: u64) {
        self.active.forget(privilege, gla);
    }

    /// Makes the entries of an identifier the active ones.
    pub fn activate(&mut self, pcid: u16) {
        if self.active.pcid == pcid {
            return;
        }
        self.tables.clear();
        self.flushed.activate(pcid);
        let pkru = self.active.pkru;
        let found = self.parked.iter().position(|set| set.pcid == pcid);
        let mut set = match found {
            Some(at) => self.parked.remove(at),
            None if self.parked.len() < MAX_PARKED => Set::new(pcid, Space::Empty),
            None => {
                let mut oldest = self.parked.remove(0);
                oldest.flush_all();
                oldest.pcid = pcid;
                oldest
            }
        };
        set.set_pkru(pkru);
        self.parked.push(std::mem::replace(&mut self.active, set));
    }

    /// The active identifier is that of the address space whose paging structures begin at `root` now.
    /// What it has of another one stays unless it is flushed.
    pub fn enter_space(&mut self, root: u64) {
        self.root = root;
        self.active.space = match self.active.space {
            Space::Empty => Space::Of(root),
            Space::Of(space) if space == root => Space::Of(root),
            _ => Space::Mixed,
        };
    }

    /// Forgets what another processor has changed.
    pub fn forget_for_others(&mut self, forget: &Forget) {
        self.tables.clear();
        self.flushed.parked = true;
        match &forget.pages {
            None => self.flushed.non_global = true,
            Some(pages) => pages.iter().for_each(|&(first, last)| {
                self.note_flush(first);
                self.flushed.range(first, last);
                self.note_flush(last);
            }),
        }
        // What a flush of globals leaves behind no note tells apart.
        self.flushed.all |= forget.pages.is_none() && !forget.keep_global;
        for set in self.sets() {
            let in_space = forget.takes_space(set.space);
            set.retain(|origin| {
                let wanted = if origin.global { !forget.keep_global } else { in_space };
                !(wanted && forget.takes_page(origin))
            });
        }
    }

    /// Whether any access to the page around `gla` is cached for an identifier.
    #[must_use]
    pub fn knows(&self, pcid: u16, gla: u64) -> bool {
        let mut sets = std::iter::once(&self.active).chain(&self.parked);
        sets.any(|set| set.pcid == pcid && set.knows(gla))
    }

    /// Forgets user pages whose protection key this value of PKRU denies more than before.
    pub fn set_pkru(&mut self, pkru: u32) {
        self.active.set_pkru(pkru);
    }

    /// Forgets everything, global pages and other identifiers as well.
    pub fn flush_all(&mut self) {
        self.tables.clear();
        self.flushed.all = true;
        self.sets().for_each(Set::flush_all);
        self.active.space = Space::Of(self.root);
    }

    /// Forgets everything of the active identifier but global pages: a write of CR3.
    pub fn flush_non_global(&mut self) {
        self.tables.clear();
        self.flushed.non_global = true;
        self.active.flush_non_global();
        self.active.space = Space::Of(self.root);
    }

    /// Forgets everything of all identifiers but global pages.
    pub fn flush_all_non_global(&mut self) {
        self.tables.clear();
        self.flushed.non_global = true;
        self.flushed.parked = true;
        self.sets().for_each(Set::flush_non_global);
        self.active.space = Space::Of(self.root);
    }

    /// Forgets everything of one identifier but global pages.
    pub fn flush_pcid(&mut self, pcid: u16) {
        self.tables.clear();
        if self.active.pcid == pcid {
            self.flushed.non_global = true;
        } else {
            self.flushed.parked = true;
        }
        let of_pcid = self.sets().filter(|set| set.pcid == pcid);
        of_pcid.for_each(Set::flush_non_global);
        if self.active.pcid == pcid {
            self.active.space = Space::Of(self.root);
        }
    }

    /// Forgets the page around `gla`, as INVLPG does: of the active identifier, and global pages of
    /// all; every piece of it if it is a large one.
    pub fn flush_page(&mut self, gla: u64) {
        self.tables.clear();
        self.note_flush(gla);
        self.active.flush_page(gla, false);
        self.parked.iter_mut().for_each(|set| set.flush_page(gla, true));
    }

    /// Forgets the page around `gla` of one identifier, as INVPCID does.
    pub fn flush_page_of(&mut self, pcid: u16, gla: u64) {
        self.tables.clear();
        if self.active.pcid == pcid {
            self.note_flush(gla);
        } else {
            self.flushed.parked = true;
        }
        self.sets().filter(|set| set.pcid == pcid).for_each(|set| set.flush_page(gla, false));
    }

    /// Makes the next write to a page miss, whatever linear address it uses: the page at this address
    /// of the process holds decoded instructions now.
    pub fn trap_writes(&mut self, page: u64) {
        self.sets().for_each(|set| set.trap_writes(page));
    }

    /// Makes the next write to a linear page miss.
    pub fn forget_write(&mut self, privilege: Privilege, gla: u64) {
        self.active.table.forget_write(index(privilege, gla));
    }

    /// Makes the next write to every page miss.
    pub fn trap_all_writes(&mut self) {
        self.sets().for_each(Set::trap_all_writes);
    }

    fn note_flush(&mut self, gla: u64) {
        let size = if self.active.is_large(gla) { PageSize::Size1G } else { PageSize::Size4K };
        let offset = size.bytes() - 1;
        self.flushed.range(gla & !offset, gla | offset);
    }

    /// What left since the last call. The entry of a page may go without a word when another one
    /// takes its place: that is no reason to forget it elsewhere.
    #[inline]
    pub fn take_flushed(&mut self) -> Option<Flushed> {
        self.flushed.any().then(|| std::mem::take(&mut self.flushed))
    }

    /// Whether [`Self::take_flushed`] has something.
    #[inline]
    #[must_use]
    pub fn has_flushed(&self) -> bool {
        self.flushed.any()
    }

    /// Whether the page around `gla` is known to be a global one.
    #[must_use]
    pub fn is_global(&self, privilege: Privilege, gla: u64) -> bool {
        let origin = self.active.origin_of(index(privilege, gla), gla);
        origin.is_some_and(|origin| origin.global)
    }

    fn sets(&mut self) -> impl Iterator<Item = &mut Set> {
        std::iter::once(&mut self.active).chain(&mut self.parked)
    }
}

impl Default for Tlb {
    fn default() -> Self {
        Self::new()
    }
}
