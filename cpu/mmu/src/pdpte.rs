//! The four PDPTE registers of PAE paging ("PDPTE Registers").

use std::fmt;

use cpu_mem::{PageFlags, PhysMap};

use crate::entry::{PRESENT, address_bits_above};

/// Bits 2:1 and 8:5 of a PDPTE must be zero.
const RESERVED: u64 = 0x1e6;

/// Why the PDPTE registers were not loaded; they keep their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PdpteError {
    /// A present entry has a reserved bit set: exception #GP(0).
    Reserved,
    /// The table lies where the guest-physical map has no readable page.
    NotBacked {
        /// Guest-physical address of the table.
        gpa: u64,
    },
}

impl fmt::Display for PdpteError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved => formatter.write_str("reserved bit set in a PDPTE"),
            Self::NotBacked { gpa } => write!(formatter, "no memory for PDPTEs at gpa {gpa:#x}"),
        }
    }
}

impl std::error::Error for PdpteError {}

/// Reads the four entries at bits 31:5 of `cr3`, as a write of CR3 in PAE mode (and of CR0 and
/// CR4, where they enter it) does.
///
/// # Errors
/// [`PdpteError`]; the guest's write of the register must then fail.
pub fn load_pdptes(cr3: u64, mem: &PhysMap, max_phy_addr: u8) -> Result<[u64; 4], PdpteError> {
    let gpa = cr3 & 0xffff_ffe0;
    let page = mem
        .page(gpa)
        .filter(|page| page.flags().contains(PageFlags::READ))
        .ok_or(PdpteError::NotBacked { gpa })?;
    // 32-byte alignment keeps all four in the page.
    let offset = gpa as usize % cpu_mem::PAGE_SIZE;
    let entries = [0, 8, 16, 24].map(|index| page.load::<u64>(offset + index));
    let reserved = RESERVED | address_bits_above(max_phy_addr) | 0xfff << 52;
    if entries.iter().any(|entry| entry & PRESENT != 0 && entry & reserved != 0) {
        return Err(PdpteError::Reserved);
    }
    Ok(entries)
}
