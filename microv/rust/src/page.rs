//! The shared page of a PP: 4 KiB of this process that caller and hypercall layer both see.
//!
//! Laws: the owner may change the page at any time, so no reference into it exists, every byte an
//! operation uses is copied in once and checked as a copy, and every byte it answers is written once.
//! Unsafe because the page is named by an address that came in a register.
#![allow(unsafe_code, reason = "volatile access to memory named by address")]

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::abi::id::MV_PAGE_SIZE;
use crate::host_memory::{HostMemory, Need};

const SIZE: usize = MV_PAGE_SIZE as usize;

/// A page-aligned, mapped, writable page of this process.
#[derive(Debug, PartialEq, Eq)]
pub struct SharedPage {
    address: usize,
}

impl SharedPage {
    /// The page at `gpa`, or `None` where it is 0, unaligned, too high, or not mapped for reading and
    /// writing in this process. It stays so until the owner has cleared it: that is the owner's part
    /// of the contract of set_shared_page_gpa.
    pub fn new(gpa: u64, host: &HostMemory) -> Option<SharedPage> {
        let address = usize::try_from(gpa).ok()?;
        let usable = address != 0
            && address.is_multiple_of(SIZE)
            && host.allows(gpa, MV_PAGE_SIZE, Need::ReadWrite);
        usable.then_some(SharedPage { address })
    }

    /// Root-physical address.
    pub fn gpa(&self) -> u64 {
        self.address as u64
    }

    /// Copies `into.len()` bytes from `offset` (a multiple of 8) of the page.
    ///
    /// # Panics
    /// Where the range leaves the page.
    pub fn copy_in(&self, offset: usize, into: &mut [u8]) {
        let start = self.check(offset, into.len());
        let (words, tail) = into.as_chunks_mut::<8>();
        for (i, word) in words.iter_mut().enumerate() {
            // SAFETY: `check` proved start + 8 * i + 8 within the page; `new` proved the page mapped
            // and aligned, and the owner keeps it so while it is set.
            *word = unsafe { (start as *const u64).add(i).read_volatile() }.to_ne_bytes();
        }
        for (i, byte) in tail.iter_mut().enumerate() {
            // SAFETY: as above; the tail lies directly behind the words, within the checked range.
            *byte = unsafe { (start as *const u8).add(8 * words.len() + i).read_volatile() };
        }
    }

    /// Copies `from` to `offset` (a multiple of 8) of the page.
    ///
    /// # Panics
    /// Where the range leaves the page.
    pub fn copy_out(&self, offset: usize, from: &[u8]) {
        let start = self.check(offset, from.len());
        let (words, tail) = from.as_chunks::<8>();
        for (i, word) in words.iter().enumerate() {
            // SAFETY: `check` proved start + 8 * i + 8 within the page; `new` proved the page mapped,
            // writable and aligned, and the owner keeps it so while it is set.
            unsafe { (start as *mut u64).add(i).write_volatile(u64::from_ne_bytes(*word)) };
        }
        for (i, byte) in tail.iter().enumerate() {
            // SAFETY: as above; the tail lies directly behind the words, within the checked range.
            unsafe { (start as *mut u8).add(8 * words.len() + i).write_volatile(*byte) };
        }
    }

    /// The structure at the start of the page.
    pub fn read<T: FromBytes + IntoBytes>(&self) -> T {
        self.read_at(0)
    }

    /// The value at `offset` (a multiple of 8).
    pub fn read_at<T: FromBytes + IntoBytes>(&self, offset: usize) -> T {
        let mut value = T::new_zeroed();
        self.copy_in(offset, value.as_mut_bytes());
        value
    }

    /// The `count` values from `offset` (a multiple of 8) on.
    pub fn read_list<T: FromBytes + IntoBytes + Clone>(
        &self,
        offset: usize,
        count: usize,
    ) -> Vec<T> {
        let mut list = vec![T::new_zeroed(); count];
        self.copy_in(offset, list.as_mut_bytes());
        list
    }

    /// Puts a structure at `offset` (a multiple of 8) of the page.
    pub fn write<T: IntoBytes + Immutable>(&self, offset: usize, value: &T) {
        self.copy_out(offset, value.as_bytes());
    }

    fn check(&self, offset: usize, bytes: usize) -> usize {
        assert!(offset.is_multiple_of(8) && offset <= SIZE && bytes <= SIZE - offset);
        self.address + offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_memory::fake;

    #[repr(align(4096))]
    struct Page([u8; SIZE]);

    fn page_at(memory: &mut Page) -> SharedPage {
        SharedPage::new(memory.0.as_mut_ptr() as u64, &fake::everything()).unwrap()
    }

    #[test]
    fn bytes_come_back_as_written_at_every_length() {
        let mut memory = Box::new(Page([0; SIZE]));
        let page = page_at(&mut memory);
        for length in 0..40 {
            let sent: Vec<u8> = (1..=length).collect();
            let mut received = vec![0; sent.len()];
            page.copy_out(8, &sent);
            page.copy_in(8, &mut received);
            assert_eq!(received, sent);
        }
    }

    #[test]
    fn refuses_zero_unaligned_and_unmapped() {
        assert_eq!(SharedPage::new(0, &fake::everything()), None);
        assert_eq!(SharedPage::new(0x1008, &fake::everything()), None);
        assert_eq!(SharedPage::new(0x1000, &fake::nothing()), None);
    }

    #[test]
    #[should_panic]
    fn does_not_leave_the_page() {
        let mut memory = Box::new(Page([0; SIZE]));
        page_at(&mut memory).copy_out(SIZE - 8, &[0; 9]);
    }
}
