//! The page walk ("Hierarchical Paging Structures", "Access Rights", "Accessed and Dirty Flags").
//!
//! A walk first descends without any effect, then checks the access, and only then sets the
//! accessed bits on its way and the dirty bit of the page, each by a compare-exchange against the
//! entry that was read. Where an entry changed meanwhile, the walk starts anew, so that no update
//! is made to an entry that the guest has replaced. Entries in memory that the guest may not write
//! (firmware in a read-only slot) keep their bits, and the access goes on. An entry where there is no
//! memory reads as not present, as in KVM.
//!
//! The manuals let a walk that ends in a fault set accessed bits of the entries before; this one
//! does not.

use cpu_mem::{HostPage, PageFlags, PhysMap};

use crate::entry::{self, ACCESSED, DIRTY, EXECUTE_DISABLE, GLOBAL, PRESENT, USER, WRITABLE};
use crate::pdpte;
use crate::table_cache::TableCache;
use crate::translation::Rights;
use crate::{
    Access, AccessKind, Mode, PageFault, PageSize, Paging, Pdptes, Privilege, Translation,
};

/// Page-fault error code: the fault is of a present page.
const ERROR_PRESENT: u32 = 1 << 0;
const ERROR_WRITE: u32 = 1 << 1;
const ERROR_USER: u32 = 1 << 2;
const ERROR_RESERVED: u32 = 1 << 3;
const ERROR_FETCH: u32 = 1 << 4;
const ERROR_KEY: u32 = 1 << 5;

/// Translates for an access, sets accessed and dirty bits, and checks rights.
///
/// `gla` is canonical (the caller raised #GP or #SS otherwise); in modes of 32-bit linear
/// addresses its upper half is ignored.
///
/// # Errors
/// [`PageFault`]; no bit was set then.
pub fn walk(
    paging: &Paging,
    mem: &PhysMap,
    gla: u64,
    access: Access,
) -> Result<Translation, PageFault> {
    walk_whole(paging, mem, gla, access).map(|path| path.translation)
}

/// As [`walk`], by way of `tables`.
///
/// # Errors
/// As [`walk`]: what it finds in memory, not what is cached, decides on a fault.
pub(crate) fn walk_by(
    tables: &mut TableCache,
    paging: &Paging,
    mem: &PhysMap,
    gla: u64,
    access: Access,
) -> Result<Translation, PageFault> {
    if let Some(start) = tables.find(gla)
        && let Ok(mut path) = Path::descend_from(start, paging, mem, gla)
        && path.translation.rights(access.privilege).allows(access.kind)
        && path.mark(mem, access.kind == AccessKind::Write)
    {
        path.end.filter(|end| *end != start).inspect(|&end| tables.insert(gla, end));
        return Ok(path.translation);
    }
    let path = walk_whole(paging, mem, gla, access)?;
    if let Some(end) = path.end.filter(|_| matches!(paging.mode, Mode::Level4 | Mode::Level5)) {
        tables.insert(gla, end);
    }
    Ok(path.translation)
}

fn walk_whole(paging: &Paging, mem: &PhysMap, gla: u64, access: Access) -> Result<Path, PageFault> {
    let fault = |cause: u32| PageFault { error_code: cause | access_bits(paging, access), gla };
    loop {
        let mut path = Path::descend(paging, mem, gla).map_err(|stop| fault(stop.cause()))?;
        if !path.translation.rights(access.privilege).allows(access.kind) {
            let key = denied_by_key(paging, &path.translation, access);
            return Err(fault(ERROR_PRESENT | if key { ERROR_KEY } else { 0 }));
        }
        if path.mark(mem, access.kind == AccessKind::Write) {
            return Ok(path);
        }
    }
}

/// Translates without checking rights and without setting bits; for debuggers and hypercalls.
///
/// The result must not enter a TLB: its accessed bits may be clear.
///
/// # Errors
/// As [`walk`], with the error code of a supervisor read.
pub fn translate(paging: &Paging, mem: &PhysMap, gla: u64) -> Result<Translation, PageFault> {
    let fault = |error_code| PageFault { error_code, gla };
    let path = Path::descend(paging, mem, gla).map_err(|stop| fault(stop.cause()))?;
    Ok(path.translation)
}

/// The bits of an error code that tell about the access.
fn access_bits(paging: &Paging, access: Access) -> u32 {
    let user = if access.privilege.is_user() { ERROR_USER } else { 0 };
    let kind = match access.kind {
        AccessKind::Read => 0,
        AccessKind::Write => ERROR_WRITE,
        AccessKind::Execute if paging.smep || paging.nxe => ERROR_FETCH,
        AccessKind::Execute => 0,
    };
    user | kind
}

/// Why a descent ended early.
pub(crate) enum Stop {
    /// The entry is not present, or there is no memory where it is to be.
    NotPresent,
    /// A reserved bit is set.
    Reserved,
}

impl Stop {
    /// Bits of the error code that tell about the entry.
    fn cause(&self) -> u32 {
        match self {
            Self::NotPresent => 0,
            Self::Reserved => ERROR_PRESENT | ERROR_RESERVED,
        }
    }
}

/// An entry as it was read.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) page: HostPage,
    pub(crate) gpa: u64,
    pub(crate) raw: u64,
    /// 32-bit entry.
    narrow: bool,
}

/// The entries used by a translation, root first, and what they say.
struct Path {
    steps: [Option<Step>; 5],
    translation: Translation,
    /// The table of the last entry.
    end: Option<Start>,
}

/// A table on the way, and what is allowed below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    table: u64,
    level: u32,
    gathered: Gathered,
}

impl Start {
    /// No table.
    pub(crate) const NONE: Self = Start { table: 0, level: 0, gathered: Gathered::ALL };

    /// 0: a page table.
    pub(crate) fn level(&self) -> u32 {
        self.level
    }
}

/// Rights gathered on the way: each entry can only take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gathered {
    user: bool,
    writable: bool,
    executable: bool,
}

impl Path {
    fn descend(paging: &Paging, mem: &PhysMap, gla: u64) -> Result<Self, Stop> {
        let (table, level) = match paging.mode {
            Mode::Off => {
                return Ok(Self { steps: [None; 5], translation: untranslated(gla), end: None });
            }
            Mode::Legacy => (paging.cr3 & 0xffff_f000, 1),
            Mode::Pae => (entry::address(pdpte_of(paging, mem, gla)?, 4096), 1),
            Mode::Level4 => (entry::address(paging.cr3, 4096), 3),
            Mode::Level5 => (entry::address(paging.cr3, 4096), 4),
        };
        Self::descend_from(Start { table, level, gathered: Gathered::ALL }, paging, mem, gla)
    }

    fn descend_from(start: Start, paging: &Paging, mem: &PhysMap, gla: u64) -> Result<Self, Stop> {
        let mut steps = [None; 5];
        let mut end = start;
        loop {
            let Start { table, level, mut gathered } = end;
            let step = Step::read(paging, mem, Step::gpa(paging, table, level, gla), level)?;
            steps[(start.level - level) as usize] = Some(step);
            gathered.narrow_by(paging, step.raw);
            if entry::is_leaf(paging, level, step.raw) {
                let translation = leaf(paging, level, step.raw, gla, &gathered);
                return Ok(Self { steps, translation, end: Some(end) });
            }
            end = Start { table: entry::address(step.raw, 4096), level: level - 1, gathered };
        }
    }

    /// Sets A on the way, and D at the page for a write. False if an entry has changed.
    fn mark(&mut self, mem: &PhysMap, write: bool) -> bool {
        let mut steps = self.steps.iter().flatten().peekable();
        while let Some(step) = steps.next() {
            let is_leaf = steps.peek().is_none();
            let wanted = ACCESSED | if is_leaf && write { DIRTY } else { 0 };
            let missing = wanted & !step.raw;
            if missing == 0 || !step.page.flags().contains(PageFlags::WRITE) {
                continue;
            }
            if !step.set(mem, missing) {
                return false;
            }
            self.translation.dirty |= missing & DIRTY != 0;
        }
        true
    }
}

/// The entry of the first level of PAE paging. It has neither rights nor an accessed bit.
pub(crate) fn pdpte_of(paging: &Paging, mem: &PhysMap, gla: u64) -> Result<u64, Stop> {
    let index = (gla >> 30) as usize % 4;
    let pdpte = match paging.pdptes {
        Pdptes::Registers(entries) => entries[index],
        Pdptes::InMemory => {
            let gpa = pdpte::table(paging.cr3) + index as u64 * 8;
            let page = mem.page(gpa).filter(|page| page.flags().contains(PageFlags::READ));
            page.ok_or(Stop::NotPresent)?.load(gpa as usize % cpu_mem::PAGE_SIZE)
        }
    };
    if pdpte & PRESENT == 0 {
        return Err(Stop::NotPresent);
    }
    if pdpte & pdpte::reserved(paging.max_phy_addr) != 0 {
        return Err(Stop::Reserved);
    }
    Ok(pdpte)
}

impl Step {
    /// Where the entry for `gla` is in a table of this level.
    #[inline]
    pub(crate) fn gpa(paging: &Paging, table: u64, level: u32, gla: u64) -> u64 {
        let narrow = paging.mode == Mode::Legacy;
        let (index_bits, entry_bytes) = if narrow { (10, 4) } else { (9, 8) };
        let index = (gla >> (12 + level * index_bits)) & ((1 << index_bits) - 1);
        table + index * entry_bytes
    }

    #[inline]
    pub(crate) fn read(paging: &Paging, mem: &PhysMap, gpa: u64, level: u32) -> Result<Self, Stop> {
        let narrow = paging.mode == Mode::Legacy;
        let page = mem
            .page(gpa)
            .filter(|page| page.flags().contains(PageFlags::READ))
            .ok_or(Stop::NotPresent)?;
        let offset = gpa as usize % cpu_mem::PAGE_SIZE;
        let raw = if narrow { u64::from(page.load::<u32>(offset)) } else { page.load(offset) };
        if raw & PRESENT == 0 {
            return Err(Stop::NotPresent);
        }
        if raw & entry::reserved(paging, level, entry::is_leaf(paging, level, raw)) != 0 {
            return Err(Stop::Reserved);
        }
        Ok(Self { page, gpa, raw, narrow })
    }

    /// Sets bits of the entry, unless it is not the one that was read.
    pub(crate) fn set(&self, mem: &PhysMap, bits: u64) -> bool {
        let noted = mem.page_to_write(self.gpa);
        if !noted.is_some_and(|page| page.same_memory(self.page)) {
            return false;
        }
        let offset = self.gpa as usize % cpu_mem::PAGE_SIZE;
        let new = self.raw | bits;
        if self.narrow {
            self.page.compare_exchange(offset, self.raw as u32, new as u32).is_ok()
        } else {
            self.page.compare_exchange(offset, self.raw, new).is_ok()
        }
    }
}

impl Gathered {
    /// Before the first entry.
    pub(crate) const ALL: Self = Gathered { user: true, writable: true, executable: true };

    pub(crate) fn narrow_by(&mut self, paging: &Paging, raw: u64) {
        self.user &= raw & USER != 0;
        self.writable &= raw & WRITABLE != 0;
        self.executable &= !(paging.nxe && raw & EXECUTE_DISABLE != 0);
    }
}

/// Without paging every access is allowed.
fn untranslated(gla: u64) -> Translation {
    Translation {
        gpa: gla & 0xffff_ffff,
        page_size: PageSize::Size4K,
        global: false,
        dirty: true,
        user: true,
        writable: true,
        executable: true,
        protection_key: None,
        rights: [Rights::ALL; Privilege::ALL.len()],
    }
}

pub(crate) fn leaf(
    paging: &Paging,
    level: u32,
    raw: u64,
    gla: u64,
    gathered: &Gathered,
) -> Translation {
    let page_size = match (paging.mode, level) {
        (_, 0) => PageSize::Size4K,
        (Mode::Legacy, _) => PageSize::Size4M,
        (_, 1) => PageSize::Size2M,
        _ => PageSize::Size1G,
    };
    let base = match page_size {
        PageSize::Size4M => entry::address_4m(raw),
        _ => entry::address(raw, page_size.bytes()),
    };
    let &Gathered { user, writable, executable } = gathered;
    let protection_key = (user && paging.pkru.is_some()).then(|| entry::protection_key(raw));
    let denied = KeyRights::of(paging, protection_key);
    Translation {
        gpa: base | (gla & (page_size.bytes() - 1)),
        page_size,
        global: paging.pge && raw & GLOBAL != 0,
        dirty: raw & DIRTY != 0,
        user,
        writable,
        executable,
        protection_key,
        rights: Privilege::ALL.map(|privilege| rights(paging, gathered, denied, privilege)),
    }
}

/// What a protection key denies.
#[derive(Clone, Copy)]
struct KeyRights {
    /// AD: every data access.
    access: bool,
    /// WD: user writes, and supervisor writes where CR0.WP is set.
    write: bool,
}

impl KeyRights {
    fn of(paging: &Paging, key: Option<u8>) -> Self {
        let bits = match (paging.pkru, key) {
            (Some(pkru), Some(key)) => pkru >> (2 * key) & 3,
            _ => 0,
        };
        Self { access: bits & 1 != 0, write: bits & 2 != 0 }
    }
}

/// Whether the key alone would be reason enough for a fault.
fn denied_by_key(paging: &Paging, page: &Translation, access: Access) -> bool {
    let denied = KeyRights::of(paging, page.protection_key);
    let write_counts = paging.wp || access.privilege.is_user();
    match access.kind {
        AccessKind::Execute => false,
        AccessKind::Read => denied.access,
        AccessKind::Write => denied.access || (denied.write && write_counts),
    }
}

/// "Determination of Access Rights", "Protection Keys".
fn rights(paging: &Paging, page: &Gathered, key: KeyRights, privilege: Privilege) -> Rights {
    let writable = page.writable && !key.write;
    let (data, write, execute) = match privilege {
        Privilege::User | Privilege::UserAligned => (page.user, writable, page.user),
        Privilege::Supervisor | Privilege::SupervisorAc => {
            let smap = paging.smap && privilege == Privilege::Supervisor;
            (!(page.user && smap), writable || !paging.wp, !(page.user && paging.smep))
        }
    };
    let data = data && !key.access;
    let mut rights = Rights::NONE;
    if data {
        rights |= Rights::READ;
    }
    if data && write {
        rights |= Rights::WRITE;
    }
    if execute && page.executable {
        rights |= Rights::EXECUTE;
    }
    rights
}
