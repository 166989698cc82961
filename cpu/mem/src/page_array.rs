//! Pages by number, of which only what is used takes memory.

use crate::{HostPage, ZeroedWords};

/// A fixed number of places, each for a page. Zero stands for none, so a new array is memory that nobody
/// has touched yet.
pub struct PageArray(ZeroedWords);

impl PageArray {
    /// `len` places without a page.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self(ZeroedWords::new(len))
    }

    /// The page at a place.
    ///
    /// # Panics
    /// When there is no such place.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, place: usize) -> Option<HostPage> {
        HostPage::from_entry(self.0[place])
    }

    /// Puts a page, or none, into a place.
    ///
    /// # Panics
    /// When there is no such place.
    #[inline]
    pub fn set(&mut self, place: usize, page: Option<HostPage>) {
        self.0[place] = page.map_or(0, HostPage::entry);
    }
}
