//! Random states with the values that matter: every class of number, every control bit.

use super::native::{Area, State};

/// xorshift64*
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, count: u64) -> u64 {
        (self.next() >> 32) % count
    }

    /// An 80-bit value of a random class.
    fn extended(&mut self) -> [u8; 10] {
        let integer_bit = 1 << 63;
        let sign = (self.next() & 0x8000) as u16;
        let (mantissa, exponent) = match self.below(12) {
            0 => (0, 0),
            1 => (integer_bit, 0x7FFF),
            2 => (self.next() | integer_bit | 1 << 62, 0x7FFF),
            3 => ((self.next() | 1 | integer_bit) & !(1 << 62), 0x7FFF),
            4 => (self.next() >> 1, 0),
            5 => (self.next() | integer_bit, 0),
            6 => (self.next() >> 1, 0x4000),
            7 => (integer_bit | self.below(8) << 60, 0x3FFF + self.below(8) as u16),
            8 => (self.next() | integer_bit, 0x3F00 + self.below(0x200) as u16),
            _ => (self.next() | integer_bit, 0x3FFE + self.below(70) as u16),
        };
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&u64::to_le_bytes(mantissa));
        bytes[8..].copy_from_slice(&u16::to_le_bytes(sign | exponent));
        bytes
    }

    /// A state in which no unmasked exception waits.
    pub fn state(&mut self) -> State {
        let mut area = Area([0; 512]);
        let masks = if self.below(2) == 0 { 0x3F } else { self.next() as u16 & 0x3F };
        let control = (self.next() as u16 & 0x1F00) | 0x40 | masks;
        let status = self.next() as u16 & (0x7F40 | masks);
        // Whole and empty stacks are as likely as others.
        let tags = match self.below(4) {
            0 => 0,
            1 => 0xFF,
            _ => self.next() as u8,
        };
        area.0[..2].copy_from_slice(&control.to_le_bytes());
        area.0[2..4].copy_from_slice(&(status & !0x80).to_le_bytes());
        area.0[4] = tags;
        area.0[6..8].copy_from_slice(&(self.next() as u16 & 0x7FF).to_le_bytes());
        area.0[8..16].copy_from_slice(&(self.next() >> 17).to_le_bytes());
        area.0[16..24].copy_from_slice(&(self.next() >> 17).to_le_bytes());
        area.0[24..28].copy_from_slice(&0x1F80_u32.to_le_bytes());
        for number in 0..8 {
            let at = 32 + 16 * number;
            area.0[at..at + 10].copy_from_slice(&self.extended());
        }
        State {
            area,
            environment: [0; 28],
            memory: self.memory(),
            rax: self.next(),
            flags: self.next() & 0x8D5,
        }
    }

    fn memory(&mut self) -> [u8; 128] {
        let mut memory = [0; 128];
        for word in memory.chunks_exact_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
        match self.below(6) {
            0 => memory[..10].copy_from_slice(&self.extended()),
            1 => memory[..8].copy_from_slice(&(self.below(1000) as f64 - 500.0).to_le_bytes()),
            2 => memory[..4].copy_from_slice(&(self.below(1000) as f32 - 500.0).to_le_bytes()),
            3 => memory[..8].copy_from_slice(&(self.below(1000) as i64 - 500).to_le_bytes()),
            // Decimal digits.
            4 => memory[..9].iter_mut().for_each(|byte| *byte = (*byte & 0x77) | 1),
            _ => {}
        }
        memory
    }
}
