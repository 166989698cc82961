//! The entries of one process-context identifier.

use cpu_mem::{HostPage, PageArray, PageFlags, ZeroedWords};

use super::forget::Space;
use super::large::LargePages;
use super::origin::{IN_GLOBAL, IN_LOCAL, Origin};
use super::table::{ENTRIES, HOST, PAGE_MASK, Table, Tags, index, no_page};
use crate::{AccessKind, PageSize, Privilege, Translation};

/// The entries of one process-context identifier.
pub(super) struct Set {
    pub table: Table,
    /// The pages with their rights.
    pub pages: PageArray,
    origins: ZeroedWords,
    /// Entries that may be in use and not global, so that a flush does not visit all.
    local: Vec<u16>,
    /// Entries that may be in use and global.
    global: Vec<u16>,
    large: LargePages,
    pub pcid: u16,
    pub space: Space,
    /// No entry allows what this value of PKRU denies.
    pub pkru: u32,
}

impl Set {
    pub(super) fn new(pcid: u16, space: Space) -> Self {
        Self {
            table: Table::new(),
            pages: PageArray::new(ENTRIES),
            origins: ZeroedWords::new(2 * ENTRIES),
            local: Vec::new(),
            global: Vec::new(),
            large: LargePages::default(),
            pcid,
            space,
            pkru: 0,
        }
    }

    pub(super) fn insert(
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
        let tags = Tags {
            read: tag(AccessKind::Read, PageFlags::READ),
            write,
            execute: tag(AccessKind::Execute, PageFlags::EXECUTE),
        };
        self.table.set(index, tags, gla, page.address());
        self.pages.set(index, Some(page));
        let [listed, _] = self.origin_words(index);
        let (list, bit) = match translation.global {
            true => (&mut self.global, IN_GLOBAL),
            false => (&mut self.local, IN_LOCAL),
        };
        if listed & bit == 0 {
            list.push(index as u16);
        }
        let origin = Origin {
            gla,
            gpa: translation.gpa & PAGE_MASK,
            page_size: translation.page_size,
            global: translation.global,
            key_bit: translation.protection_key.map_or(0, |key| 1 << (key & 15)),
        };
        self.set_origin(index, origin.words(listed | bit));
        if translation.page_size != PageSize::Size4K {
            self.large.add(gla, translation.page_size.bytes());
        }
    }

    pub(super) fn set_pkru(&mut self, pkru: u32) {
        let denied = pkru & !self.pkru;
        self.pkru = pkru;
        let keys = (0..16).filter(|key| denied >> (2 * key) & 3 != 0);
        let bits = keys.fold(0, |bits, key| bits | 1_u16 << key);
        if bits != 0 {
            self.retain(|origin| origin.key_bit & bits == 0);
        }
    }

    pub(super) fn forget(&mut self, privilege: Privilege, gla: u64) {
        let index = index(privilege, gla);
        if self.origin_of(index, gla).is_some() {
            self.empty(index);
        }
    }

    pub(super) fn flush_all(&mut self) {
        self.retain(|_| false);
        self.large.clear();
        self.space = Space::Empty;
    }

    /// Guests without process-context identifiers do it at each switch, with thousands of global pages.
    pub(super) fn flush_non_global(&mut self) {
        self.retain_local(|_| false);
        self.space = Space::Empty;
    }

    pub(super) fn flush_page(&mut self, gla: u64, global_only: bool) {
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
    pub(super) fn is_large(&self, gla: u64) -> bool {
        self.large.contain(gla)
    }

    pub(super) fn trap_writes(&mut self, page: u64) {
        for &index in self.local.iter().chain(&self.global) {
            let index = usize::from(index);
            if self.table.get(index, HOST) == page {
                self.table.forget_write(index);
            }
        }
    }

    pub(super) fn trap_all_writes(&mut self) {
        for &index in self.local.iter().chain(&self.global) {
            self.table.forget_write(index.into());
        }
    }

    /// Any access to the page around `gla` is cached.
    pub(super) fn knows(&self, gla: u64) -> bool {
        self.local.iter().chain(&self.global).any(|&index| {
            let index = usize::from(index);
            self.pages.get(index).is_some() && self.origin_of(index, gla).is_some()
        })
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Origin) -> bool) {
        self.retain_local(&keep);
        let mut global = std::mem::take(&mut self.global);
        global.retain(|&index| self.stays(index, IN_GLOBAL, |origin| origin.global, &keep));
        self.global = global;
    }

    fn retain_local(&mut self, keep: impl Fn(&Origin) -> bool) {
        let mut local = std::mem::take(&mut self.local);
        local.retain(|&index| self.stays(index, IN_LOCAL, |origin| !origin.global, &keep));
        self.local = local;
    }

    /// Whether an entry stays in a list, which is that of entries of which `belongs` is true. It is emptied
    /// if it is one of them, and is not to be kept.
    #[inline(always)]
    fn stays(
        &mut self,
        index: u16,
        list: u64,
        belongs: impl Fn(&Origin) -> bool,
        keep: impl Fn(&Origin) -> bool,
    ) -> bool {
        let index = usize::from(index);
        let [word, gpa] = self.origin_words(index);
        let known = self.pages.get(index).and_then(|_| Origin::from_words([word, gpa]));
        match known {
            Some(origin) if !belongs(&origin) => self.set_origin(index, [word & !list, gpa]),
            Some(origin) if keep(&origin) => return true,
            _ => {
                self.empty(index);
                self.set_origin(index, Origin::no_words(word & !list));
            }
        }
        false
    }

    /// The page, if the tag of this access is that of `gla`.
    #[inline(always)]
    pub(super) fn hit(&self, privilege: Privilege, gla: u64, tag: usize) -> Option<HostPage> {
        let index = index(privilege, gla);
        if self.table.get(index, tag) == gla & PAGE_MASK { self.pages.get(index) } else { None }
    }

    /// What is known about the entry, if it is or was of the page around `gla`.
    #[inline]
    pub(super) fn origin_of(&self, index: usize, gla: u64) -> Option<Origin> {
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
}
