//! Linear addresses translated for the host.

use cpu_defs::rflags;
pub use cpu_mmu::{Failure as ProbeFailure, Found as Probed};
use cpu_mmu::{Privilege, Wanted};

use crate::Vcpu;

/// A linear address translated without side effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest-physical address, page offset included.
    pub gpa: u64,
    /// The page tables allow writes.
    pub writable: bool,
    /// The page tables allow instruction fetch.
    pub executable: bool,
    /// The page tables allow user access.
    pub user: bool,
    /// Bytes of the page that maps the address (4 KiB without paging).
    pub page_size: u64,
}

/// An access that is not made, and the bits that it would set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// It stores.
    pub write: bool,
    /// User code makes it, else a supervisor with the guest's RFLAGS.AC.
    pub user: bool,
    /// It fetches.
    pub execute: bool,
    /// Accessed bits are to be set if there is a translation.
    pub set_accessed: bool,
    /// The dirty bit too.
    pub set_dirty: bool,
    /// If there is none, those of the entries before the one that ended the walk.
    pub force_accessed: bool,
}

impl Vcpu {
    /// Translates a linear address by the present paging mode, for an access that is not made. None: it
    /// is not canonical, or has more than 32 bits outside long mode.
    #[must_use]
    pub fn probe(&mut self, gla: u64, access: Probe) -> Option<Probed> {
        self.prepare();
        let cpu = self.cpu();
        let is_address = match cpu.mode.long {
            true => cpu.mode.is_canonical(gla),
            false => gla >> 32 == 0,
        };
        let ac = cpu.arch.rflags & rflags::AC != 0;
        let wanted = Wanted {
            privilege: Privilege::explicit(if access.user { 3 } else { 0 }, ac),
            write: access.write,
            execute: access.execute,
            set_accessed: access.set_accessed,
            set_dirty: access.set_dirty,
            force_accessed: access.force_accessed,
        };
        let memory = &cpu.memory;
        is_address.then(|| cpu_mmu::probe(&memory.paging, &memory.map, gla, wanted))
    }

    /// Translates a linear address by the present paging mode; accessed and dirty bits stay. None
    /// if it is not mapped, not canonical, or a paging structure is not in memory.
    #[must_use]
    pub fn translate(&self, gla: u64) -> Option<Translation> {
        let cpu = self.cpu();
        let gla = if cpu.mode.long { gla } else { gla & 0xFFFF_FFFF };
        if cpu.mode.long && !cpu.mode.is_canonical(gla) {
            return None;
        }
        let found = cpu_mmu::translate(&cpu.memory.paging, &cpu.memory.map, gla).ok()?;
        Some(Translation {
            gpa: found.gpa,
            writable: found.writable,
            executable: found.executable,
            user: found.user,
            page_size: found.page_size.bytes(),
        })
    }
}
