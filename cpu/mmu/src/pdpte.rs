//! The page-directory-pointer table of PAE paging.
//!
//! Intel loads its four entries into registers when CR3 is written ("PDPTE Registers"); AMD reads
//! them in each walk, as entries of any other level (APM volume 2, "Legacy-Mode Page Translation").

use cpu_mem::{PageFlags, PhysMap};

use crate::entry::{PRESENT, address_bits_above};

/// Bits 2:1 and 8:5 of a PDPTE must be zero.
const RESERVED: u64 = 0x1e6;

/// Where a walk finds the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pdptes {
    /// In registers, loaded by [`load_pdptes`].
    Registers([u64; 4]),
    /// In the table that CR3 points to.
    InMemory,
}

impl Default for Pdptes {
    fn default() -> Self {
        Self::Registers([0; 4])
    }
}

/// Reads the four entries at bits 31:5 of `cr3`, as a write of CR3 in PAE mode (and of CR0 and
/// CR4, where they change paging) does. None if a present one has a reserved bit set, or where
/// there is no memory: the guest's write of the register is then #GP(0).
#[must_use]
pub fn load_pdptes(cr3: u64, mem: &PhysMap, max_phy_addr: u8) -> Option<[u64; 4]> {
    let gpa = table(cr3);
    let page = mem.page(gpa).filter(|page| page.flags().contains(PageFlags::READ))?;
    // 32-byte alignment keeps all four in the page.
    let offset = gpa as usize % cpu_mem::PAGE_SIZE;
    let entries = [0, 8, 16, 24].map(|index| page.load::<u64>(offset + index));
    let legal = |entry: &u64| entry & PRESENT == 0 || entry & reserved(max_phy_addr) == 0;
    entries.iter().all(legal).then_some(entries)
}

/// The table of PAE paging.
pub(crate) fn table(cr3: u64) -> u64 {
    cr3 & 0xffff_ffe0
}

/// Bits that must be zero in a present PDPTE.
pub(crate) fn reserved(max_phy_addr: u8) -> u64 {
    RESERVED | address_bits_above(max_phy_addr) | 0xfff << 52
}
