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

use cpu_mem::{HostPage, PageArray, PageFlags, ZeroedWords};

use crate::table_cache::TableCache;
use crate::{Access, AccessKind, PageSize, Privilege, Translation};

/// Sets besides the active one. Linux uses six identifiers, twice as many with page-table isolation.
const MAX_PARKED: usize = 7;
/// Ranges that are remembered one by one.
const MAX_RANGES: usize = 64;
const PAGES_PER_PRIVILEGE: usize = 16384;
const ENTRIES: usize = PAGES_PER_PRIVILEGE * Privilege::ALL.len();
const PAGE_MASK: u64 = !(cpu_mem::PAGE_SIZE as u64 - 1);

/// Words of an entry, and which is which; an entry does not cross a line of the host's cache.
const WORDS: usize = 4;
const READ: usize = 0;
const WRITE: usize = 1;
const HOST: usize = 2;
const EXECUTE: usize = 3;

/// What a hit needs: tags, which are linear page addresses or [`no_page`], and the address of the page in
/// this process. Translated code looks here by itself, see [`Tlb::table`].
///
/// Nearly all of it is zero at first, which takes no memory until it is written.
struct Table(ZeroedWords);

impl Table {
    fn new() -> Self {
        let mut table = Table(ZeroedWords::new(WORDS * ENTRIES));
        Privilege::ALL.iter().for_each(|&privilege| table.clear(index(privilege, 0)));
        table
    }

    #[inline(always)]
    fn get(&self, index: usize, word: usize) -> u64 {
        self.0[index * WORDS + word]
    }

    #[inline(always)]
    fn set(&mut self, index: usize, word: usize, value: u64) {
        self.0[index * WORDS + word] = value;
    }

    fn clear(&mut self, index: usize) {
        [READ, WRITE, EXECUTE].into_iter().for_each(|tag| self.set(index, tag, no_page(index)));
        self.set(index, HOST, 0);
    }
}

/// How translated code finds an entry: `gla >> PAGE_SHIFT`, modulo [`layout::ENTRIES`], is its
/// number in [`Tlb::table`].
pub mod layout {
    /// Entries of a table.
    pub const ENTRIES: usize = super::PAGES_PER_PRIVILEGE;
    /// Bytes of an entry.
    pub const ENTRY_LEN: usize = super::WORDS * 8;
    /// Offset of the linear address of a page that can be loaded from, in 64 bits.
    pub const READ: usize = super::READ * 8;
    /// Offset of the linear address of a page that can be stored to.
    pub const WRITE: usize = super::WRITE * 8;
    /// Offset of the address of that page in this process.
    pub const HOST: usize = super::HOST * 8;
    /// Offset of the linear address of a page that instructions can be fetched from.
    pub const EXECUTE: usize = super::EXECUTE * 8;
}

/// What a flush needs to know of an entry: two words, zero at first.
#[derive(Clone, Copy)]
struct Origin {
    gla: u64,
    gpa: u64,
    page_size: PageSize,
    global: bool,
    /// The bit of its protection key, if it has one.
    key_bit: u16,
}

/// There is an origin in the two words; the first one's other bits are the linear address.
const KNOWN: u64 = 1;
/// The entry is in the list of filled ones, maybe emptied since.
const LISTED: u64 = 2;
const GLOBAL: u64 = 4;
const SIZE_SHIFT: u32 = 3;
const KEY_SHIFT: u32 = 5;
/// There is a key, in the bits above.
const HAS_KEY: u64 = 1 << KEY_SHIFT;

impl Origin {
    fn from_words([gla, gpa]: [u64; 2]) -> Option<Self> {
        let key_bit = if gla & HAS_KEY != 0 { 1 << (gla >> (KEY_SHIFT + 1) & 15) } else { 0 };
        (gla & KNOWN != 0).then_some(Origin {
            gla: gla & PAGE_MASK,
            gpa,
            page_size: SIZES[(gla >> SIZE_SHIFT) as usize & 3],
            global: gla & GLOBAL != 0,
            key_bit,
        })
    }
}

/// By number.
const SIZES: [PageSize; 4] =
    [PageSize::Size4K, PageSize::Size2M, PageSize::Size4M, PageSize::Size1G];

/// The entries of one process-context identifier.
struct Set {
    table: Table,
    /// The pages with their rights.
    pages: PageArray,
    origins: ZeroedWords,
    /// Entries that may be in use, so that a flush does not visit all.
    filled: Vec<u16>,
    /// Linear addresses (first, last) that pieces of larger pages came from.
    large: Option<(u64, u64)>,
    pcid: u16,
    space: Space,
    /// No entry allows what this value of PKRU denies.
    pkru: u32,
}

/// Of which address spaces the entries of a set are, but for global pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Space {
    /// Of none.
    Empty,
    /// Of that whose paging structures begin there.
    Of(u64),
    /// Of several.
    Mixed,
}

/// What another processor has this one forget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forget {
    /// Only of the address space whose paging structures begin there, and global pages; None: of each.
    pub space: Option<u64>,
    /// Only of pages that these linear addresses (first, last) are in; None: all.
    pub pages: Option<Vec<(u64, u64)>>,
    /// Global pages stay.
    pub keep_global: bool,
}

impl Forget {
    /// Everything.
    #[must_use]
    pub fn all() -> Forget {
        Forget::default()
    }

    fn takes_space(&self, space: Space) -> bool {
        // Guests with a second root for user code name the first one: the two are neighbours, for
        // they are one aligned pair of pages.
        const PAIR: u64 = !0x1FFF;
        match (self.space, space) {
            (Some(_), Space::Empty) => false,
            (Some(wanted), Space::Of(space)) => (wanted ^ space) & PAIR == 0,
            (None, _) | (_, Space::Mixed) => true,
        }
    }

    fn takes_page(&self, origin: &Origin) -> bool {
        let first = origin.gla & !(origin.page_size.bytes() - 1);
        let last = first | (origin.page_size.bytes() - 1);
        let overlaps = |&(from, to): &(u64, u64)| from <= last && first <= to;
        self.pages.as_ref().is_none_or(|pages| pages.iter().any(overlaps))
    }
}

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
            active: Set { space: Space::Of(0), ..Set::new(0) },
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
        (&raw const self.active.table.0[index(privilege, 0) * WORDS]).cast()
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
            None if self.parked.len() < MAX_PARKED => Set::new(pcid),
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
        sets.any(|set| {
            let known = |&index: &u16| {
                let index = usize::from(index);
                set.pages.get(index).is_some() && set.origin_of(index, gla).is_some()
            };
            set.pcid == pcid && set.filled.iter().any(known)
        })
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
        let index = index(privilege, gla);
        self.active.table.set(index, WRITE, no_page(index));
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

impl Set {
    fn new(pcid: u16) -> Self {
        Self {
            table: Table::new(),
            pages: PageArray::new(ENTRIES),
            origins: ZeroedWords::new(2 * ENTRIES),
            filled: Vec::new(),
            large: None,
            pcid,
            space: Space::Empty,
            pkru: 0,
        }
    }

    fn insert(
        &mut self,
        privilege: Privilege,
        gla: u64,
        translation: &Translation,
        page: HostPage,
        writes: bool,
    ) {
        let index = index(privilege, gla);
        let gla = gla & PAGE_MASK;
        let rights = translation.rights(privilege);
        let tag = |kind, flag| {
            let allowed = rights.allows(kind) && page.flags().contains(flag);
            if allowed { gla } else { no_page(index) }
        };
        let writable = writes && translation.dirty;
        let write =
            if writable { tag(AccessKind::Write, PageFlags::WRITE) } else { no_page(index) };
        self.table.set(index, READ, tag(AccessKind::Read, PageFlags::READ));
        self.table.set(index, WRITE, write);
        self.table.set(index, EXECUTE, tag(AccessKind::Execute, PageFlags::EXECUTE));
        self.table.set(index, HOST, page.address());
        self.pages.set(index, Some(page));
        if self.origins[2 * index] & LISTED == 0 {
            self.filled.push(index as u16);
        }
        let size = SIZES.iter().position(|&size| size == translation.page_size).unwrap_or(0);
        let key =
            translation.protection_key.map_or(0, |key| HAS_KEY | u64::from(key) << (KEY_SHIFT + 1));
        let global = if translation.global { GLOBAL } else { 0 };
        let known = gla | KNOWN | LISTED | global | (size as u64) << SIZE_SHIFT | key;
        self.set_origin(index, [known, translation.gpa & PAGE_MASK]);
        if translation.page_size != PageSize::Size4K {
            self.widen_large(gla, translation.page_size.bytes());
        }
    }

    fn set_pkru(&mut self, pkru: u32) {
        let denied = pkru & !self.pkru;
        self.pkru = pkru;
        let keys = (0..16).filter(|key| denied >> (2 * key) & 3 != 0);
        let bits = keys.fold(0, |bits, key| bits | 1_u16 << key);
        if bits != 0 {
            self.retain(|origin| origin.key_bit & bits == 0);
        }
    }

    fn forget(&mut self, privilege: Privilege, gla: u64) {
        let index = index(privilege, gla);
        if self.origin_of(index, gla).is_some() {
            self.empty(index);
        }
    }

    fn flush_all(&mut self) {
        self.retain(|_| false);
        self.large = None;
        self.space = Space::Empty;
    }

    fn flush_non_global(&mut self) {
        self.retain(|origin| origin.global);
        self.space = Space::Empty;
    }

    fn flush_page(&mut self, gla: u64, global_only: bool) {
        if self.is_large(gla) {
            self.retain(|origin| {
                let elsewhere = (origin.gla ^ gla) & !(origin.page_size.bytes() - 1) != 0;
                elsewhere || (global_only && !origin.global)
            });
            return;
        }
        for privilege in Privilege::ALL {
            let index = index(privilege, gla);
            let origin = self.origin_of(index, gla);
            if origin.is_some_and(|origin| origin.global || !global_only) {
                self.empty(index);
            }
        }
    }

    /// It may be in a large page.
    fn is_large(&self, gla: u64) -> bool {
        self.large.is_some_and(|(first, last)| (first..=last).contains(&gla))
    }

    fn trap_writes(&mut self, page: u64) {
        for &index in &self.filled {
            let index = usize::from(index);
            if self.table.get(index, HOST) == page {
                self.table.set(index, WRITE, no_page(index));
            }
        }
    }

    fn trap_all_writes(&mut self) {
        for &index in &self.filled {
            self.table.set(index.into(), WRITE, no_page(index.into()));
        }
    }

    fn retain(&mut self, keep: impl Fn(&Origin) -> bool) {
        let mut filled = std::mem::take(&mut self.filled);
        filled.retain(|&index| {
            let index = usize::from(index);
            let known =
                self.pages.get(index).and_then(|_| Origin::from_words(self.origin_words(index)));
            let kept = known.is_some_and(|origin| keep(&origin));
            if !kept {
                self.empty(index);
                self.set_origin(index, [0; 2]);
            }
            kept
        });
        self.filled = filled;
    }

    /// The page, if the tag of this access is that of `gla`.
    #[inline(always)]
    fn hit(&self, privilege: Privilege, gla: u64, tag: usize) -> Option<HostPage> {
        let index = index(privilege, gla);
        if self.table.get(index, tag) == gla & PAGE_MASK { self.pages.get(index) } else { None }
    }

    /// What is known about the entry, if it is or was of the page around `gla`.
    #[inline]
    fn origin_of(&self, index: usize, gla: u64) -> Option<Origin> {
        Origin::from_words(self.origin_words(index)).filter(|origin| origin.gla == gla & PAGE_MASK)
    }

    fn origin_words(&self, index: usize) -> [u64; 2] {
        [self.origins[2 * index], self.origins[2 * index + 1]]
    }

    fn set_origin(&mut self, index: usize, words: [u64; 2]) {
        self.origins[2 * index..2 * index + 2].copy_from_slice(&words);
    }

    fn empty(&mut self, index: usize) {
        self.table.clear(index);
        self.pages.set(index, None);
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

/// A tag for entry `index` that differs from the page of every address that leads there: 0, where it can.
#[inline(always)]
const fn no_page(index: usize) -> u64 {
    if index.is_multiple_of(PAGES_PER_PRIVILEGE) { 1 << 12 } else { 0 }
}

#[inline(always)]
fn index(privilege: Privilege, gla: u64) -> usize {
    privilege as usize * PAGES_PER_PRIVILEGE + (gla >> 12) as usize % PAGES_PER_PRIVILEGE
}
