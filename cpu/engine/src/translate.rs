//! Linear addresses translated for the host.

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

impl Vcpu {
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
