//! Device memory accesses of the present instruction.
//!
//! An instruction that reads device memory stops at the read with nothing changed; when the data
//! is there it runs again from its start, and the reads it has already made are answered from the
//! record. Writes are queued and leave in order after the instruction.

use std::collections::VecDeque;

/// Most bytes in one device access.
pub const CHUNK: usize = 8;

/// One device access, inside a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioAccess {
    /// First byte.
    pub gpa: u64,
    /// 1 to 8 bytes.
    pub len: u8,
    /// Little-endian data (of a read: once it is answered).
    pub data: [u8; CHUNK],
}

/// The record of reads and the queue of writes.
#[derive(Debug, Default)]
pub struct Mmio {
    replay: Vec<MmioAccess>,
    cursor: usize,
    writes: VecDeque<MmioAccess>,
}

impl Mmio {
    /// Reads up to 8 bytes; the gap is the access that has to be made first.
    ///
    /// # Errors
    /// The access to make.
    pub fn read(&mut self, gpa: u64, to: &mut [u8]) -> Result<(), MmioAccess> {
        let wanted = MmioAccess { gpa, len: to.len() as u8, data: [0; CHUNK] };
        match self.replay.get(self.cursor) {
            Some(access) if access.gpa == gpa && access.len == wanted.len => {
                to.copy_from_slice(&access.data[..to.len()]);
                self.cursor += 1;
                Ok(())
            }
            _ => {
                self.replay.truncate(self.cursor);
                Err(wanted)
            }
        }
    }

    /// Queues a write of up to 8 bytes.
    pub fn write(&mut self, gpa: u64, data: &[u8]) {
        let mut access = MmioAccess { gpa, len: data.len() as u8, data: [0; CHUNK] };
        access.data[..data.len()].copy_from_slice(data);
        self.writes.push_back(access);
    }

    /// Records the answer to a read; the instruction is about to run again.
    pub fn answer(&mut self, access: MmioAccess) {
        self.replay.push(access);
        self.cursor = 0;
    }

    /// The instruction (or one iteration of it) has completed, or was abandoned.
    pub fn forget_reads(&mut self) {
        self.replay.clear();
        self.cursor = 0;
    }

    /// The instruction runs again from its start.
    pub fn rewind(&mut self) {
        self.cursor = 0;
    }

    /// Drops writes of an instruction that did not complete.
    pub fn forget_writes(&mut self) {
        self.writes.clear();
    }

    /// The next write to make.
    pub fn next_write(&mut self) -> Option<MmioAccess> {
        self.writes.pop_front()
    }

    /// Whether writes wait.
    #[must_use]
    pub fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Whether this instruction has touched device memory.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.replay.is_empty() || !self.writes.is_empty()
    }
}
