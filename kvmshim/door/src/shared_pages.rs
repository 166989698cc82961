//! Pages of a memfd that a client has mapped too: numbers by offset, each access one of the machine's.
//!
//! The client writes them at any time, so what is read is checked before it is used, and no reference
//! into them exists.
#![allow(unsafe_code, reason = "shared memory with another process")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// A mapping of this process's own.
pub struct SharedPages {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain shared memory, reached only by volatile and atomic accesses; any thread may.
unsafe impl Send for SharedPages {}
// SAFETY: as above; concurrent accesses race as the ABI allows them to.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// Maps `bytes` of a memfd from `offset` on, a multiple of the page size.
    ///
    /// # Errors
    /// Those of `mmap`.
    pub fn map(memfd: BorrowedFd<'_>, offset: usize, bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let (fd, offset) = (memfd.as_raw_fd(), offset as libc::off_t);
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, offset)
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { at, bytes })
    }

    /// The value at `offset`, which it is aligned to.
    ///
    /// # Panics
    /// When it is not, or reaches over the end.
    pub fn read<T: zerocopy::FromBytes>(&self, offset: usize) -> T {
        // SAFETY: inside the mapping and aligned, by `place`; any bytes are a value of `T`.
        unsafe { self.place::<T>(offset).read_volatile() }
    }

    /// Writes a value to `offset`, which it is aligned to.
    ///
    /// # Panics
    /// When it is not, or reaches over the end.
    pub fn write<T: zerocopy::IntoBytes>(&self, offset: usize, value: T) {
        // SAFETY: inside the mapping and aligned, by `place`.
        unsafe { self.place::<T>(offset).write_volatile(value) }
    }

    /// The number at `offset`; what its writer wrote before it is seen afterwards.
    ///
    /// # Panics
    /// As [`read`](Self::read).
    pub fn load_acquire(&self, offset: usize) -> u32 {
        self.atomic(offset).load(Ordering::Acquire)
    }

    /// Writes a number; who sees it sees what was written before.
    ///
    /// # Panics
    /// As [`write`](Self::write).
    pub fn store_release(&self, offset: usize, value: u32) {
        self.atomic(offset).store(value, Ordering::Release);
    }

    fn atomic(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: inside the mapping and aligned, by `place`; the mapping lives as long as `self`,
        // and an atomic may be changed by others.
        unsafe { AtomicU32::from_ptr(self.place(offset)) }
    }

    fn place<T>(&self, offset: usize) -> *mut T {
        assert!(offset.is_multiple_of(align_of::<T>()) && offset + size_of::<T>() <= self.bytes);
        // SAFETY: inside the mapping, by the assertion.
        unsafe { self.at.as_ptr().add(offset).cast() }
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no access outlives the value.
        unsafe {
            libc::munmap(self.at.as_ptr().cast(), self.bytes);
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};

    /// New pages, zeroed.
    pub fn pages(bytes: usize) -> SharedPages {
        // SAFETY: a name that ends with 0.
        let fd = unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: just made, and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an open descriptor.
        assert_eq!(unsafe { libc::ftruncate(fd.as_raw_fd(), bytes as libc::off_t) }, 0);
        SharedPages::map(fd.as_fd(), 0, bytes).unwrap()
    }

    #[test]
    fn numbers_are_kept_in_the_hosts_order() {
        let pages = pages(4096);
        pages.write(8, 0x0807_0605_0403_0201_u64);
        assert_eq!(pages.read::<[u8; 8]>(8), [1, 2, 3, 4, 5, 6, 7, 8]);
        pages.store_release(4092, 7);
        assert_eq!(pages.load_acquire(4092), 7);
    }

    #[test]
    #[should_panic(expected = "offset")]
    fn the_end_is_the_end() {
        pages(4096).read::<u64>(4096);
    }
}
