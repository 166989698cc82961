//! Random numbers, and values that instructions find interesting.

use crate::layout::{DATA, IMAGE, PAGE};

/// A generator whose numbers depend on nothing but its seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of case `number` in the run with this seed.
    #[must_use]
    pub fn of(seed: u64, number: u64) -> Self {
        let mut random = Random(seed ^ number.wrapping_mul(0xD134_2543_DE82_EF95));
        random.next();
        random
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// True in `percent` of a hundred calls.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// An address around the test pages: inside one, across two, aligned or not.
    pub fn address(&mut self) -> u64 {
        if self.chance(2) {
            return self.pick(&[
                0x8000_0000_0000_0000,
                0x0000_8000_0000_0000,
                0,
                u64::MAX,
                1 << 32,
            ]);
        }
        let page = self.below((IMAGE / PAGE) as u64 - 1) * PAGE as u64;
        let inside = match self.below(8) {
            0 => self.below(PAGE as u64),
            1 | 2 => (PAGE as u64 - 64) + self.below(64),
            3 => self.below(PAGE as u64 / 4) * 4,
            _ => self.below(PAGE as u64 / 64) * 64,
        };
        // Most accesses should succeed: the first two pages are the plain ones.
        let page = if self.chance(60) { page & PAGE as u64 } else { page };
        DATA + page + inside
    }

    /// A value for a general register.
    pub fn value(&mut self) -> u64 {
        match self.below(10) {
            0..=2 => self.address(),
            3 | 4 => self.edge(),
            5 => self.below(65),
            6 => self.below(0x1000),
            _ => self.next(),
        }
    }

    /// An integer at an edge of some size.
    pub fn edge(&mut self) -> u64 {
        let bit = self.pick(&[7, 8, 15, 16, 31, 32, 63, 0, 1]);
        let power = 1_u64 << bit;
        match self.below(6) {
            0 => power,
            1 => power.wrapping_sub(1),
            2 => power.wrapping_neg(),
            3 => power.wrapping_add(1),
            4 => !power,
            _ => self.pick(&[0, u64::MAX, 0x8080_8080_8080_8080, 0x0F0F_0F0F_0F0F_0F0F]),
        }
    }

    /// 64 bits for vector lanes: floating-point edges of each size, integers, anything.
    pub fn lanes(&mut self) -> u64 {
        match self.below(8) {
            0 | 1 => self.double(),
            2 | 3 => u64::from(self.single()) << 32 | u64::from(self.single()),
            4 => (0..4).fold(0, |lanes, _| lanes << 16 | u64::from(self.half())),
            5 => self.edge(),
            6 => 0,
            _ => self.next(),
        }
    }

    fn double(&mut self) -> u64 {
        let sign = self.next() & 1 << 63;
        let exponent = self.exponent(1023, 2047) << 52;
        sign | exponent | self.fraction(52)
    }

    fn single(&mut self) -> u32 {
        let sign = (self.next() & 1) << 31;
        let exponent = self.exponent(127, 255) << 23;
        (sign | exponent | self.fraction(23)) as u32
    }

    fn half(&mut self) -> u16 {
        let sign = (self.next() & 1) << 15;
        let exponent = self.exponent(15, 31) << 10;
        (sign | exponent | self.fraction(10)) as u16
    }

    /// An x87 register: significand, then sign and exponent.
    pub fn extended(&mut self) -> [u8; 10] {
        let sign = (self.next() & 1) << 15;
        let exponent = self.exponent(16383, 32767);
        // The integer bit is mostly what the exponent wants.
        let integer = if (exponent != 0) != self.chance(10) { 1 << 63 } else { 0 };
        let mut bytes = [0; 10];
        let significand = integer | self.fraction(63);
        bytes[..8].copy_from_slice(&significand.to_le_bytes());
        bytes[8..].copy_from_slice(&((sign | exponent) as u16).to_le_bytes());
        bytes
    }

    fn exponent(&mut self, bias: u64, max: u64) -> u64 {
        match self.below(10) {
            0 => 0,
            1 => max,
            2 => 1,
            3 => max - 1,
            4..=7 => (bias + self.below(68)).saturating_sub(34).min(max),
            _ => self.below(max + 1),
        }
    }

    fn fraction(&mut self, bits: u32) -> u64 {
        let all = (1 << bits) - 1;
        match self.below(7) {
            0 | 1 => 0,
            2 => all,
            3 => 1 << (bits - 1),
            4 => 1,
            5 => 1 << self.below(u64::from(bits)),
            _ => self.next() & all,
        }
    }
}
