//! A walk that tells why it failed and where, and sets the bits that are asked for: for hypervisors that
//! emulate an access of their guest.
//!
//! It allows what [`crate::walk`] allows. Where that is a page fault, this one goes on to say at which
//! entry.

use cpu_mem::{PageFlags, PhysMap};

use crate::entry::{self, ACCESSED, DIRTY, EXECUTE_DISABLE, USER, WRITABLE};
use crate::pdpte;
use crate::walk::{Gathered, Step, Stop, leaf, pdpte_of};
use crate::{AccessKind, Mode, Paging, Privilege, Translation};

/// What is to be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whose rights count.
    pub privilege: Privilege,
    /// The access stores.
    pub write: bool,
    /// The access fetches. With neither it loads; with both it must be allowed both.
    pub execute: bool,
    /// Accessed bits of all entries are to be set, if there is a translation.
    pub set_accessed: bool,
    /// The dirty bit of the page as well.
    pub set_dirty: bool,
    /// Without a translation accessed bits are to be set of the entries before the one that ended the
    /// walk.
    pub force_accessed: bool,
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An entry is not present.
    NotPresent,
    /// An entry denies the access.
    Denied,
    /// A reserved bit is set.
    Reserved,
    /// There is no memory where an entry, or the page itself, is to be.
    NoMemory,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Guest-physical address, offset included. Without a translation that of the entry that ended the
    /// walk, or of the page that is not there.
    pub gpa: u64,
    /// Why there is no translation.
    pub failure: Option<Failure>,
    /// The bits that were asked for are set. Not where there is no translation and none was forced, nor
    /// where an entry is in memory that the guest cannot write.
    pub marked: bool,
}

/// Translates `gla`, which is canonical, and below 4 GiB in modes of 32-bit linear addresses.
pub fn probe(paging: &Paging, mem: &PhysMap, gla: u64, wanted: Wanted) -> Found {
    loop {
        let walked = Walked::descend(paging, mem, gla, wanted);
        let Walked { gpa, failure, .. } = walked;
        if !wanted.set_accessed || (failure.is_some() && !wanted.force_accessed) {
            return Found { gpa, failure, marked: false };
        }
        let dirty = wanted.set_dirty && failure.is_none();
        if let Some(marked) = walked.mark(mem, dirty) {
            return Found { gpa, failure, marked };
        }
    }
}

/// A walk that has ended.
struct Walked {
    steps: [Option<Step>; 5],
    /// Entries that did not end it.
    passed: usize,
    gpa: u64,
    failure: Option<Failure>,
}

impl Walked {
    fn descend(paging: &Paging, mem: &PhysMap, gla: u64, wanted: Wanted) -> Walked {
        let mut walked = Walked { steps: [None; 5], passed: 0, gpa: 0, failure: None };
        let (mut table, mut level) = match paging.mode {
            Mode::Off => return walked.end_at(mem, gla & 0xffff_ffff),
            Mode::Legacy => (paging.cr3 & 0xffff_f000, 1),
            Mode::Pae => match pdpte_of(paging, mem, gla) {
                Ok(pdpte) => (entry::address(pdpte, 4096), 1),
                Err(stop) => {
                    let index = (gla >> 30) % 4;
                    return walked.stop(mem, stop, pdpte::table(paging.cr3) + index * 8);
                }
            },
            Mode::Level4 => (entry::address(paging.cr3, 4096), 3),
            Mode::Level5 => (entry::address(paging.cr3, 4096), 4),
        };
        let mut gathered = Gathered::ALL;
        loop {
            let gpa = Step::gpa(paging, table, level, gla);
            let step = match Step::read(paging, mem, gpa, level) {
                Ok(step) => step,
                Err(stop) => return walked.stop(mem, stop, gpa),
            };
            walked.steps[walked.passed] = Some(step);
            walked.passed += 1;
            gathered.narrow_by(paging, step.raw);
            if entry::is_leaf(paging, level, step.raw) {
                let page = leaf(paging, level, step.raw, gla, &gathered);
                return match allows(&page, wanted) {
                    true => walked.end_at(mem, page.gpa),
                    false => walked.deny(paging, wanted),
                };
            }
            table = entry::address(step.raw, 4096);
            level -= 1;
        }
    }

    fn end_at(mut self, mem: &PhysMap, gpa: u64) -> Walked {
        self.gpa = gpa;
        self.failure = mem.page(gpa).is_none().then_some(Failure::NoMemory);
        self
    }

    fn stop(mut self, mem: &PhysMap, stop: Stop, gpa: u64) -> Walked {
        let is_there = mem.page(gpa).is_some_and(|page| page.flags().contains(PageFlags::READ));
        self.gpa = gpa;
        self.failure = Some(match stop {
            _ if !is_there => Failure::NoMemory,
            Stop::NotPresent => Failure::NotPresent,
            Stop::Reserved => Failure::Reserved,
        });
        self
    }

    /// At the first entry that lacks a right, or, where it has one too many (SMEP, SMAP) or a key
    /// denies, at the page's.
    fn deny(mut self, paging: &Paging, wanted: Wanted) -> Walked {
        let user = wanted.privilege.is_user();
        let lacks = |step: &Step| {
            (wanted.write && (paging.wp || user) && step.raw & WRITABLE == 0)
                || (wanted.execute && paging.nxe && step.raw & EXECUTE_DISABLE != 0)
                || (user && step.raw & USER == 0)
        };
        let mut steps = self.steps.iter().flatten();
        self.passed = steps.position(lacks).unwrap_or(self.passed - 1);
        self.gpa = self.steps[self.passed].map_or(0, |step| step.gpa);
        self.failure = Some(Failure::Denied);
        self
    }

    /// Sets A of the entries that were passed, and D of the last one. None: one has changed meanwhile;
    /// false: one cannot be written.
    fn mark(&self, mem: &PhysMap, dirty: bool) -> Option<bool> {
        let mut done = true;
        for (place, step) in self.steps.iter().flatten().take(self.passed).enumerate() {
            let is_page = place + 1 == self.passed;
            let wanted = ACCESSED | if is_page && dirty { DIRTY } else { 0 };
            let missing = wanted & !step.raw;
            if missing == 0 {
                continue;
            }
            if !step.page.flags().contains(PageFlags::WRITE) {
                done = false;
            } else if !step.set(mem, missing) {
                return None;
            }
        }
        Some(done)
    }
}

fn allows(page: &Translation, wanted: Wanted) -> bool {
    let rights = page.rights(wanted.privilege);
    let kinds = [
        (wanted.write, AccessKind::Write),
        (wanted.execute, AccessKind::Execute),
        (!wanted.write && !wanted.execute, AccessKind::Read),
    ];
    kinds.into_iter().all(|(wants, kind)| !wants || rights.allows(kind))
}
