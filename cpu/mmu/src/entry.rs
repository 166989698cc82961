//! Bits of paging-structure entries ("Formats of Paging-Structure Entries"), and which of them
//! are reserved.

use crate::{Mode, Paging};

/// P: the entry is in use.
pub(crate) const PRESENT: u64 = 1 << 0;
/// R/W: writes are allowed below.
pub(crate) const WRITABLE: u64 = 1 << 1;
/// U/S: user accesses are allowed below.
pub(crate) const USER: u64 = 1 << 2;
/// A: a translation has used the entry.
pub(crate) const ACCESSED: u64 = 1 << 5;
/// D: the page has been written.
pub(crate) const DIRTY: u64 = 1 << 6;
/// PS: the entry maps a page, not a table.
pub(crate) const PAGE_SIZE: u64 = 1 << 7;
/// G: the page is in all address spaces.
pub(crate) const GLOBAL: u64 = 1 << 8;
/// XD: fetches are forbidden below.
pub(crate) const EXECUTE_DISABLE: u64 = 1 << 63;

/// The protection key of an entry that maps a page.
pub(crate) fn protection_key(raw: u64) -> u8 {
    (raw >> 59) as u8 & 15
}

/// Address field of an entry, or of CR3, before reserved bits.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The table, or the page of `size_bytes`, that an entry points to.
pub(crate) fn address(raw: u64, size_bytes: u64) -> u64 {
    raw & ADDRESS & !(size_bytes - 1)
}

/// The 4 MiB page of a 32-bit entry; bits 20:13 are bits 39:32 of the address (PSE-36).
pub(crate) fn address_4m(raw: u64) -> u64 {
    (raw & 0xffc0_0000) | ((raw & 0x001f_e000) << 19)
}

/// Address bits 51 down to MAXPHYADDR.
pub(crate) fn address_bits_above(max_phy_addr: u8) -> u64 {
    bits(51, max_phy_addr)
}

/// Whether an entry of this `level` (0: page table) maps a page.
pub(crate) fn is_leaf(paging: &Paging, level: u32, raw: u64) -> bool {
    let large = match (paging.mode, level) {
        (_, 0) => return true,
        (Mode::Legacy, 1) => paging.pse,
        (_, 1) => true,
        (_, 2) => paging.page_1g,
        _ => false,
    };
    large && raw & PAGE_SIZE != 0
}

/// Bits that must be zero in a present entry of this `level`.
pub(crate) fn reserved(paging: &Paging, level: u32, leaf: bool) -> u64 {
    if paging.mode == Mode::Legacy {
        let above = paging.max_phy_addr.min(40) - 32;
        return if leaf && level == 1 { bits(21, 13 + above) } else { 0 };
    }
    let execute_disable = if paging.nxe { 0 } else { EXECUTE_DISABLE };
    let ignored_in_long_mode = if paging.mode == Mode::Pae { bits(62, 52) } else { 0 };
    let by_level = match (level, leaf) {
        (1, true) => bits(20, 13),
        (2, true) => bits(29, 13),
        // PS of a level without pages of its size. Level 1 never comes here with PS set.
        (2.., false) => PAGE_SIZE,
        _ => 0,
    };
    address_bits_above(paging.max_phy_addr) | execute_disable | ignored_in_long_mode | by_level
}

/// Ones from bit `high` down to bit `low`; none if `low` is greater.
fn bits(high: u8, low: u8) -> u64 {
    (u64::MAX >> (63 - high)) & u64::MAX.checked_shl(u32::from(low)).unwrap_or(0)
}
