//! The memory that the oracle and its child have in common.
//!
//! A memfd whose descriptor the child inherits. Who owns it is told by messages on the child's
//! standard input and output: one side at a time.
#![allow(unsafe_code)]

use std::io;
use std::ptr;

use crate::case::{Case, Outcome};
use crate::layout::IMAGE;

/// Cases that are handed over at a time.
pub const BATCH: usize = 128;

/// The common memory.
#[repr(C)]
pub struct Exchange {
    /// What all of memory looks like, apart from the pokes of a case.
    pub image: [u8; IMAGE],
    /// Inputs.
    pub cases: [Case; BATCH],
    /// Results.
    pub outcomes: [Outcome; BATCH],
}

/// One mapping of it.
pub struct Shared {
    fd: i32,
    memory: *mut Exchange,
}

impl Shared {
    /// New memory.
    ///
    /// # Errors
    /// Those of memfd_create(2), ftruncate(2) and mmap(2).
    pub fn create() -> io::Result<Self> {
        // SAFETY: the name ends with a zero byte.
        let fd = unsafe { libc::memfd_create(c"oracle".as_ptr(), 0) };
        // SAFETY: changes only the length of the new file.
        if fd < 0 || unsafe { libc::ftruncate(fd, size_of::<Exchange>() as i64) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Self::open(fd)
    }

    /// The memory behind a descriptor that [`create`](Self::create) made.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn open(fd: i32) -> io::Result<Self> {
        let (access, len) = (libc::PROT_READ | libc::PROT_WRITE, size_of::<Exchange>());
        // SAFETY: new memory, nothing is replaced.
        let memory = unsafe { libc::mmap(ptr::null_mut(), len, access, libc::MAP_SHARED, fd, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Shared { fd, memory: memory.cast() })
    }

    /// The descriptor.
    #[must_use]
    pub fn fd(&self) -> i32 {
        self.fd
    }

    /// The memory, for the side that owns it now.
    pub fn exchange(&mut self) -> &mut Exchange {
        // SAFETY: mapped until the end of the process and large enough; every bit pattern is a
        // value; the other side touches it only between a message to it and its answer, during
        // which `Native` lends this to nobody.
        unsafe { &mut *self.memory }
    }

    /// The same for code that keeps no borrow.
    #[must_use]
    pub fn pointer(&self) -> *mut Exchange {
        self.memory
    }
}
