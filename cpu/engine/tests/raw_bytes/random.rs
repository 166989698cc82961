//! Random numbers that depend on nothing but the seed.

/// A generator (SplitMix64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// The generator of one run.
    pub fn of(seed: u64, number: u64) -> Self {
        let mut random = Random(seed ^ number.wrapping_mul(0xD134_2543_DE82_EF95));
        random.next();
        random
    }

    /// 64 bits.
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

    /// A number that means something somewhere: an address in RAM, an edge, anything.
    pub fn value(&mut self) -> u64 {
        match self.below(6) {
            0 | 1 => self.below(super::machine::RAM),
            2 => 1 << self.below(64),
            3 => (1_u64 << self.below(64)).wrapping_neg(),
            4 => self.below(256),
            _ => self.next(),
        }
    }
}
