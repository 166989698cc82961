//! What a guest may do with a guest-physical page.

use std::ops::{BitAnd, BitOr};

/// A set of access rights to a page of guest-physical memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageFlags(u8);

impl PageFlags {
    /// No access.
    pub const NONE: Self = Self(0);
    /// Loads, including those of the page walk.
    pub const READ: Self = Self(1);
    /// Stores.
    pub const WRITE: Self = Self(2);
    /// Instruction fetches.
    pub const EXECUTE: Self = Self(4);
    /// Every right.
    pub const ALL: Self = Self(7);

    /// No right, and in no set of a page: the page begins with its writes logged.
    pub const LOGGED: Self = Self(8);

    /// The set as bits: `READ` 0, `WRITE` 1, `EXECUTE` 2, `LOGGED` 3.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set with these bits; bits 7:3 are ignored.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Whether every right of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for PageFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for PageFlags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}
