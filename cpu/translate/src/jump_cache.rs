//! Where translated code goes on at a linear address, for branches whose target is not known or is
//! in another page.
//!
//! One table for user and one for supervisor code. It holds what was looked up since the epoch moved
//! ([`cpu_interp::Cpu::epoch`]): that is when translations and code of others are looked at again.

/// A linear address and the host code for it. The layout is fixed: translated code looks here.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct JumpEntry {
    pub rip: u64,
    pub host: u64,
}

/// Log2 of the bytes of an entry.
pub(crate) const ENTRY_SHIFT: u8 = 4;
/// Entries.
pub(crate) const ENTRIES: usize = 4096;

/// The entry of no address leads nowhere: 0 is compared as well, so it goes to entry 1's place.
const fn empty(index: usize) -> JumpEntry {
    JumpEntry { rip: if index == 0 { 1 } else { 0 }, host: 0 }
}

/// The table of one privilege.
pub(crate) struct JumpCache {
    entries: Box<[JumpEntry]>,
    filled: Vec<u16>,
}

/// Number of the entry of an address.
pub(crate) const fn index(rip: u64) -> usize {
    rip as usize % ENTRIES
}

impl JumpCache {
    pub(crate) fn new() -> Self {
        JumpCache { entries: (0..ENTRIES).map(empty).collect(), filled: Vec::new() }
    }

    pub(crate) fn entries(&self) -> *const JumpEntry {
        self.entries.as_ptr()
    }

    /// The host code at an address, if it is known.
    #[inline]
    pub(crate) fn find(&self, rip: u64) -> Option<u64> {
        let entry = &self.entries[index(rip)];
        (entry.rip == rip).then_some(entry.host)
    }

    pub(crate) fn insert(&mut self, rip: u64, host: u64) {
        let index = index(rip);
        if self.entries[index].host == 0 {
            self.filled.push(index as u16);
        }
        self.entries[index] = JumpEntry { rip, host };
    }

    pub(crate) fn clear(&mut self) {
        for index in self.filled.drain(..) {
            let index = usize::from(index);
            self.entries[index] = empty(index);
        }
    }
}
