//! The answer to a port read, while the instruction that asked runs again.

/// Elements read from a port, not yet consumed.
#[derive(Debug, Default)]
pub struct PortInput {
    data: Vec<u8>,
    cursor: usize,
}

impl PortInput {
    /// Sets the answer; elements left from before are dropped.
    pub fn answer(&mut self, data: &[u8]) {
        self.clear();
        self.data.extend_from_slice(data);
    }

    /// Drops the answer.
    pub fn clear(&mut self) {
        self.data.clear();
        self.cursor = 0;
    }

    /// The next element of `size` bytes, without consuming it.
    #[must_use]
    pub fn peek(&self, size: u8) -> Option<u32> {
        let bytes = self.data.get(self.cursor..self.cursor + usize::from(size))?;
        let mut value = [0; 4];
        value[..bytes.len()].copy_from_slice(bytes);
        Some(u32::from_le_bytes(value))
    }

    /// Consumes an element of `size` bytes.
    pub fn consume(&mut self, size: u8) {
        self.cursor += usize::from(size);
    }

    /// Whether an instruction is being completed.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.cursor < self.data.len()
    }
}
