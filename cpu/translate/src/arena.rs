//! Memory for translated code: written through one mapping, executed through another.
//!
//! The file behind both is a memfd (memfd_create(2)) that nobody else has. Its pages come into being
//! when code is written to them.
//!
//! `unsafe`: mmap and writes through a raw pointer.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

/// Bytes of an arena.
pub(crate) const ARENA_LEN: usize = 64 << 20;
/// Pieces of code start at multiples of this.
const ALIGNMENT: usize = 16;

/// A place in an arena.
pub(crate) type At = u32;

/// Two views of the same memory.
pub(crate) struct Arena {
    write: NonNull<u8>,
    execute: NonNull<u8>,
    used: usize,
}

// SAFETY: the mappings belong to this value alone and are not bound to a thread.
unsafe impl Send for Arena {}

impl Arena {
    /// Maps an arena.
    ///
    /// # Errors
    /// The error of memfd_create(2), ftruncate(2) or mmap(2).
    pub(crate) fn new() -> Result<Self, Error> {
        let file = memory_file()?;
        let write = map(&file, libc::PROT_READ | libc::PROT_WRITE)?;
        match map(&file, libc::PROT_READ | libc::PROT_EXEC) {
            Ok(execute) => Ok(Arena { write, execute, used: 0 }),
            Err(error) => {
                unmap(write);
                Err(error)
            }
        }
    }

    /// Bytes left.
    pub(crate) fn room(&self) -> usize {
        ARENA_LEN - self.used
    }

    /// Forgets all code.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }

    /// Appends code; where it starts, or None if it does not fit.
    pub(crate) fn push(&mut self, code: &[u8]) -> Option<At> {
        let len = code.len().next_multiple_of(ALIGNMENT);
        if len > self.room() {
            return None;
        }
        let at = self.used;
        // SAFETY: `at + code.len()` is inside of the mapping, as just checked; no reference to it
        // exists, and `&mut self` keeps others from executing it meanwhile.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), self.write.as_ptr().add(at), code.len()) };
        self.used += len;
        Some(at as At)
    }

    /// Has the branch whose 32-bit distance is at `place` lead to `target`, both in pushed code.
    pub(crate) fn link(&mut self, place: At, target: At) {
        let distance = target.wrapping_sub(place).wrapping_sub(4);
        let place = place as usize;
        if place + 4 > self.used || target as usize >= self.used {
            return;
        }
        let bytes = distance.to_le_bytes();
        // SAFETY: as in `push`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.write.as_ptr().add(place), 4) };
    }

    /// The address at which code pushed at `at` executes.
    pub(crate) fn address(&self, at: At) -> u64 {
        self.execute.as_ptr().expose_provenance() as u64 + u64::from(at)
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
        unsafe { libc::memfd_create(c"kvmshim-translated".as_ptr(), flags) }
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
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: without MAP_FIXED a new mapping disturbs no other.
    let at =
        unsafe { libc::mmap(ptr::null_mut(), ARENA_LEN, protection, flags, file.as_raw_fd(), 0) };
    match NonNull::new(at.cast()) {
        Some(pointer) if at != libc::MAP_FAILED => Ok(pointer),
        _ => Err(Error::last_os_error()),
    }
}

fn unmap(at: NonNull<u8>) {
    // SAFETY: the range was mapped by `map` and its owner is being dropped.
    unsafe { libc::munmap(at.as_ptr().cast(), ARENA_LEN) };
}
