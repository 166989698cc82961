//! Memory for snippets. An arena starts with the stub that ends a faulted snippet, see
//! [`crate::sigfpe`].

use std::io::Error;

use crate::CodeMemory;
use crate::sigfpe::Registration;

/// Bytes of an arena.
const ARENA_LEN: usize = 1 << 20;

/// Code behind a stub.
pub(crate) struct Arena {
    code: CodeMemory,
    stub_len: usize,
    _registration: Registration,
}

impl Arena {
    /// Maps an arena that begins with `stub`, the end of faulted snippets.
    ///
    /// # Errors
    /// As [`CodeMemory::new`].
    pub(crate) fn new(stub: &[u8]) -> Result<Self, Error> {
        let mut code = CodeMemory::new(c"kvmshim-snippets", ARENA_LEN)?;
        let (start, len) = code.range();
        code.push(stub);
        let stub_len = code.used();
        Ok(Arena { code, stub_len, _registration: Registration::new(start, len) })
    }

    /// Bytes left.
    pub(crate) fn room(&self) -> usize {
        self.code.room()
    }

    /// Forgets all code but the stub.
    pub(crate) fn clear(&mut self) {
        self.code.truncate(self.stub_len);
    }

    /// Appends code; where it starts, or None if it does not fit.
    pub(crate) fn push(&mut self, code: &[u8]) -> Option<usize> {
        self.code.push(code)
    }

    /// The address at which code pushed at `at` executes.
    pub(crate) fn entry(&self, at: usize) -> Option<*const u8> {
        self.code.entry(at)
    }
}
