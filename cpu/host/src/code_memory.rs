//! Memory for code: a file that is written as files are, and executed through its only mapping.
//!
//! It fills from both ends: code that is seldom executed lies apart from the rest, where it takes no
//! room in the processor's caches of code and translations.
//!
//! The file is a memfd (memfd_create(2)) that nobody else has. Its pages come into being when code is
//! written to them. There is no writable mapping: a page that is mapped twice is resident twice.
//!
//! Pages full of code that is often executed become large ones (MADV_COLLAPSE, madvise(2)): a
//! kernel's code takes more pages than the processor has translations at hand.
//!
//! `unsafe`: mmap and madvise.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io::Error;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};

/// Pieces of code start at multiples of this.
const ALIGNMENT: usize = 16;
/// Bytes of a page.
const PAGE: usize = 4096;
/// Bytes of a large page.
const LARGE_PAGE: usize = 2 << 20;

/// A file of code and its mapping.
pub struct CodeMemory {
    file: File,
    /// What the mapping is in.
    _addresses: Addresses,
    execute: NonNull<u8>,
    len: usize,
    used: usize,
    /// Where the code begins that lies apart.
    apart: usize,
}

// SAFETY: the mappings belong to this value alone and are not bound to a thread.
unsafe impl Send for CodeMemory {}

impl CodeMemory {
    /// Maps `len` bytes, a multiple of the page size; /proc/PID/maps shows `name`.
    ///
    /// # Errors
    /// The error of memfd_create(2), ftruncate(2) or mmap(2).
    pub fn new(name: &CStr, len: usize) -> Result<Self, Error> {
        let file = memory_file(name, len)?;
        let addresses = Addresses::new(len + LARGE_PAGE)?;
        let execute = addresses.map(&file, len)?;
        Ok(CodeMemory { file, _addresses: addresses, execute, len, used: 0, apart: len })
    }

    /// Bytes left.
    #[must_use]
    pub fn room(&self) -> usize {
        self.apart - self.used
    }

    /// Where the next piece of code starts.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Bytes in use.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.len - self.room()
    }

    /// Forgets the code from `used` on, and all that lies apart.
    pub fn truncate(&mut self, used: usize) {
        self.used = self.used.min(used);
        self.apart = self.len;
    }

    /// Gives memory back that holds no code.
    pub fn release(&mut self) {
        let first = self.used.next_multiple_of(PAGE);
        let end = self.apart / PAGE * PAGE;
        if first < end {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            let (start, len) = (first as libc::off_t, (end - first) as libc::off_t);
            // SAFETY: a plain system call on a descriptor that we own; what nobody executes reads as
            // zeros afterwards. Where it is not possible the memory stays.
            unsafe { libc::fallocate(self.file.as_raw_fd(), mode, start, len) };
        }
    }

    /// Appends code; where it starts, or None if it does not fit or the system has no memory for it.
    pub fn push(&mut self, code: &[u8]) -> Option<usize> {
        let len = code.len().next_multiple_of(ALIGNMENT);
        if len > self.room() {
            return None;
        }
        let at = self.used;
        self.write(at, code)?;
        self.used += len;
        self.collapse(at / LARGE_PAGE..self.used / LARGE_PAGE);
        Some(at)
    }

    /// Where code of `len` bytes would start that [`Self::push_apart`] appends.
    #[must_use]
    pub fn next_apart(&self, len: usize) -> Option<usize> {
        let len = len.next_multiple_of(ALIGNMENT);
        (len <= self.room()).then(|| self.apart - len)
    }

    /// As [`Self::push`], for code that is seldom executed.
    pub fn push_apart(&mut self, code: &[u8]) -> Option<usize> {
        let at = self.next_apart(code.len())?;
        self.write(at, code)?;
        self.apart = at;
        Some(at)
    }

    /// Has the branch whose 32-bit distance is at `place` lead to `target`, both in pushed code. It
    /// leads where it has led if the system cannot do that.
    pub fn link(&mut self, place: usize, target: usize) {
        let end = place.saturating_add(3);
        if !self.holds(place) || !self.holds(end) || !self.holds(target) {
            return;
        }
        let distance = (target as i64 - (place as i64 + 4)) as i32;
        self.write(place, &distance.to_le_bytes());
    }

    /// `at + code.len()` is at most `len`. Nobody executes it meanwhile: that takes `&mut self` too.
    fn write(&self, at: usize, code: &[u8]) -> Option<()> {
        self.file.write_all_at(code, at as u64).ok()
    }

    /// Makes large pages, which are in use, of the pages there.
    fn collapse(&self, pages: Range<usize>) {
        for page in pages {
            // SAFETY: what is in use is in the mapping, and keeps its contents. Where the system cannot do it
            // (Linux before 6.1, no memory in one piece) all stays as it is.
            unsafe {
                let at = self.execute.as_ptr().add(page * LARGE_PAGE);
                libc::madvise(at.cast(), LARGE_PAGE, libc::MADV_COLLAPSE);
            }
        }
    }

    /// The address at which what was pushed at `at` executes.
    #[must_use]
    pub fn entry(&self, at: usize) -> Option<*const u8> {
        // SAFETY: the sum stays inside of the mapping.
        self.holds(at).then(|| unsafe { self.execute.as_ptr().add(at).cast_const() })
    }

    fn holds(&self, at: usize) -> bool {
        at < self.used || (self.apart..self.len).contains(&at)
    }

    /// The addresses at which all of it executes, first and length.
    #[must_use]
    pub fn range(&self) -> (usize, usize) {
        (self.execute.as_ptr().expose_provenance(), self.len)
    }
}

fn memory_file(name: &CStr, len: usize) -> Result<File, Error> {
    let create = |flags: u32| {
        // SAFETY: the name is a string with its end.
        unsafe { libc::memfd_create(name.as_ptr(), flags) }
    };
    // Kernels before 6.3 do not know the flag, later ones may insist on it.
    let mut fd = create(libc::MFD_CLOEXEC | libc::MFD_EXEC);
    if fd < 0 {
        fd = create(libc::MFD_CLOEXEC);
    }
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours.
    let file = unsafe { File::from_raw_fd(fd) };
    // SAFETY: a plain system call on a descriptor that we own.
    if unsafe { libc::ftruncate(file.as_raw_fd(), len as libc::off_t) } != 0 {
        return Err(Error::last_os_error());
    }
    Ok(file)
}

/// Addresses that are ours until it is dropped, with nothing behind them but what is mapped there.
struct Addresses {
    start: NonNull<u8>,
    len: usize,
}

impl Addresses {
    fn new(len: usize) -> Result<Self, Error> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: without MAP_FIXED a new mapping disturbs no other.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        match NonNull::new(at.cast()) {
            Some(start) if at != libc::MAP_FAILED => Ok(Addresses { start, len }),
            _ => Err(Error::last_os_error()),
        }
    }

    /// Maps `len` bytes of the file for execution, from where a large page can start.
    ///
    /// # Panics
    /// When they do not fit: there has to be room for one large page more.
    fn map(&self, file: &File, len: usize) -> Result<NonNull<u8>, Error> {
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let before = self.start.align_offset(LARGE_PAGE);
        assert!(before + len <= self.len, "the mapping fits");
        // SAFETY: the mapping is inside of these addresses, where nothing is that anybody uses.
        let at = unsafe {
            let start = self.start.add(before).as_ptr();
            libc::mmap(start.cast(), len, protection, flags, file.as_raw_fd(), 0)
        };
        match NonNull::new(at.cast()) {
            Some(mapped) if at != libc::MAP_FAILED => Ok(mapped),
            _ => Err(Error::last_os_error()),
        }
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        // SAFETY: the addresses are those that `new` reserved, and their owner is being dropped.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::slice;

    use super::*;

    #[test]
    fn a_large_page_has_the_code_that_was_in_small_ones() {
        let mut memory = CodeMemory::new(c"kvmshim-test", 2 * LARGE_PAGE).unwrap();
        let pieces =
            (0..LARGE_PAGE / PAGE + 1).map(|piece| [piece as u8 ^ (piece >> 8) as u8; PAGE]);
        let pushed: Vec<_> = pieces.map(|piece| (memory.push(&piece).unwrap(), piece)).collect();
        assert!(memory.used() > LARGE_PAGE);
        for (at, piece) in pushed {
            let entry = memory.entry(at).unwrap();
            // SAFETY: a page was pushed there, and can be read.
            assert_eq!(unsafe { slice::from_raw_parts(entry, PAGE) }, piece);
        }
    }

    #[test]
    fn large_pages_could_start_where_the_code_does() {
        let memory = CodeMemory::new(c"kvmshim-test", PAGE).unwrap();
        assert!(memory.range().0.is_multiple_of(LARGE_PAGE));
    }
}
