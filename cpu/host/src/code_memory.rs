//! Memory for code: a file that is written as files are, and executed through its only mapping.
//!
//! It fills from both ends: code that is seldom executed lies apart from the rest, where it takes no
//! room in the processor's caches of code and translations.
//!
//! The file is a memfd (memfd_create(2)) that nobody else has. Its pages come into being when code is
//! written to them. There is no writable mapping: a page that is mapped twice is resident twice.
//!
//! `unsafe`: mmap.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};

/// Pieces of code start at multiples of this.
const ALIGNMENT: usize = 16;
/// Bytes of a page.
const PAGE: usize = 4096;

/// A file of code and its mapping.
pub struct CodeMemory {
    file: File,
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
        let execute = map(&file, len)?;
        Ok(CodeMemory { file, execute, len, used: 0, apart: len })
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

impl Drop for CodeMemory {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping that `map` made, and its owner is being dropped.
        unsafe { libc::munmap(self.execute.as_ptr().cast(), self.len) };
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

fn map(file: &File, len: usize) -> Result<NonNull<u8>, Error> {
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: without MAP_FIXED a new mapping disturbs no other.
    let at = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0) };
    match NonNull::new(at.cast()) {
        Some(pointer) if at != libc::MAP_FAILED => Ok(pointer),
        _ => Err(Error::last_os_error()),
    }
}
