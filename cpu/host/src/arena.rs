//! Memory for snippets: written through one mapping, executed through another.
//!
//! The file behind both is a memfd (memfd_create(2)) that nobody else has. An arena starts with the
//! stub that ends a faulted snippet, see [`crate::sigfpe`].
//!
//! `unsafe`: mmap and writes through a raw pointer.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use crate::sigfpe::Registration;

/// Bytes of an arena.
pub(crate) const ARENA_LEN: usize = 1 << 20;
/// Snippets start at multiples of this.
const ALIGNMENT: usize = 16;

/// Two views of the same memory.
pub(crate) struct Arena {
    write: NonNull<u8>,
    execute: NonNull<u8>,
    used: usize,
    stub_len: usize,
    _registration: Registration,
}

// SAFETY: the mappings belong to this value alone and are not bound to a thread.
unsafe impl Send for Arena {}

impl Arena {
    /// Maps an arena that begins with `stub`, the end of faulted snippets.
    ///
    /// # Errors
    /// The error of memfd_create(2), ftruncate(2) or mmap(2).
    pub(crate) fn new(stub: &[u8]) -> Result<Self, Error> {
        let file = memory_file()?;
        let write = map(&file, libc::PROT_READ | libc::PROT_WRITE)?;
        let execute = match map(&file, libc::PROT_READ | libc::PROT_EXEC) {
            Ok(execute) => execute,
            Err(error) => {
                unmap(write);
                return Err(error);
            }
        };
        let registration = Registration::new(execute.as_ptr() as usize, ARENA_LEN);
        let mut arena = Arena { write, execute, used: 0, stub_len: 0, _registration: registration };
        arena.push(stub);
        arena.stub_len = arena.used;
        Ok(arena)
    }

    /// Bytes left.
    pub(crate) fn room(&self) -> usize {
        ARENA_LEN - self.used
    }

    /// Forgets all code but the stub.
    pub(crate) fn clear(&mut self) {
        self.used = self.stub_len;
    }

    /// Appends code; where it starts, or None if it does not fit.
    pub(crate) fn push(&mut self, code: &[u8]) -> Option<usize> {
        let len = code.len().next_multiple_of(ALIGNMENT);
        if len > self.room() {
            return None;
        }
        let at = self.used;
        // SAFETY: `at + code.len()` is inside of the mapping, as just checked; no reference to it
        // exists, and `&mut self` keeps others from executing it meanwhile.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), self.write.as_ptr().add(at), code.len()) };
        self.used += len;
        Some(at)
    }

    /// The address at which code pushed at `at` executes.
    pub(crate) fn entry(&self, at: usize) -> Option<*const u8> {
        // SAFETY: the sum stays inside of the mapping.
        (at < self.used).then(|| unsafe { self.execute.as_ptr().add(at).cast_const() })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        unmap(self.write);
        unmap(self.execute);
    }
}

fn memory_file() -> Result<OwnedFd, Error> {
    let create = |flags: u32| {
        // SAFETY: the name is a string literal with its end.
        unsafe { libc::memfd_create(c"kvmshim-snippets".as_ptr(), flags) }
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
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a plain system call on a descriptor that we own.
    if unsafe { libc::ftruncate(file.as_raw_fd(), ARENA_LEN as libc::off_t) } != 0 {
        return Err(Error::last_os_error());
    }
    Ok(file)
}

fn map(file: &OwnedFd, protection: c_int) -> Result<NonNull<u8>, Error> {
    // SAFETY: without MAP_FIXED a new mapping disturbs no other.
    let at = unsafe {
        libc::mmap(ptr::null_mut(), ARENA_LEN, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    match NonNull::new(at.cast()) {
        Some(pointer) if at != libc::MAP_FAILED => Ok(pointer),
        _ => Err(Error::last_os_error()),
    }
}

fn unmap(at: NonNull<u8>) {
    // SAFETY: the range was mapped by `map` and its owner is being dropped.
    unsafe { libc::munmap(at.as_ptr().cast(), ARENA_LEN) };
}
