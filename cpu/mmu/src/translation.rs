//! What a page walk found.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::{AccessKind, Privilege};

/// The size of a page, as the paging structures map it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageSize {
    /// 4 KiB; also without paging.
    Size4K,
    /// 2 MiB.
    Size2M,
    /// 4 MiB, 32-bit paging only.
    Size4M,
    /// 1 GiB.
    Size1G,
}

impl PageSize {
    /// Size in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Size4K => 1 << 12,
            Self::Size2M => 1 << 21,
            Self::Size4M => 1 << 22,
            Self::Size1G => 1 << 30,
        }
    }
}

/// A set of access kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rights(u8);

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Loads.
    pub const READ: Self = Self(1);
    /// Stores.
    pub const WRITE: Self = Self(2);
    /// Instruction fetches.
    pub const EXECUTE: Self = Self(4);
    /// Every access.
    pub const ALL: Self = Self(7);

    /// Whether the set has this kind of access.
    #[inline]
    pub const fn allows(self, kind: AccessKind) -> bool {
        let right = match kind {
            AccessKind::Read => Self::READ,
            AccessKind::Write => Self::WRITE,
            AccessKind::Execute => Self::EXECUTE,
        };
        self.0 & right.0 != 0
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Rights {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// A translated linear address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest-physical address, offset included.
    pub gpa: u64,
    /// Size of the page around it.
    pub page_size: PageSize,
    /// The page survives a flush of non-global entries: G at the leaf and CR4.PGE.
    pub global: bool,
    /// The dirty bit of the leaf is set in memory now (always without paging).
    pub dirty: bool,
    /// The entries allow user access.
    pub user: bool,
    /// The entries allow writes, to supervisor code as well where CR0.WP is set.
    pub writable: bool,
    /// The entries allow fetches.
    pub executable: bool,
    /// The key of a user page, where protection keys are in use.
    pub protection_key: Option<u8>,
    pub(crate) rights: [Rights; Privilege::ALL.len()],
}

impl Translation {
    /// What accesses with this privilege may do, by the entries, CR0.WP, SMEP, SMAP and
    /// PKRU together.
    #[inline]
    pub fn rights(&self, privilege: Privilege) -> Rights {
        self.rights[privilege as usize]
    }
}

/// Exception #PF: a linear address has no translation that allows the access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// As pushed by the exception ("Page-Fault Exceptions").
    pub error_code: u32,
    /// The linear address, for CR2.
    pub gla: u64,
}

impl fmt::Display for PageFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "page fault at {:#x}, error code {:#x}", self.gla, self.error_code)
    }
}

impl std::error::Error for PageFault {}
