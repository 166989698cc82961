//! Operand sizes.

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

/// An integer operand: `u8`, `u16`, `u32` or `u64`.
pub trait Width: sealed::Sealed + Copy + Eq + std::fmt::Debug + 'static {
    /// Bits in the operand: 8, 16, 32 or 64.
    const BITS: u32;

    /// Zero-extended.
    fn to_u64(self) -> u64;

    /// The low bits of `wide`.
    fn from_u64(wide: u64) -> Self;

    /// Sign-extended.
    fn to_i64(self) -> i64;

    /// The most significant bit.
    #[inline(always)]
    fn sign(self) -> bool {
        self.to_u64() >> (Self::BITS - 1) != 0
    }

    /// A shift or rotate count as the processor sees it: modulo 64 for 64-bit operands, else
    /// modulo 32.
    #[inline(always)]
    fn mask_count(count: u8) -> u32 {
        u32::from(count) & if Self::BITS == 64 { 63 } else { 31 }
    }
}

macro_rules! widths {
    ($($word:ty, $signed:ty);*) => {$(
        impl Width for $word {
            const BITS: u32 = <$word>::BITS;

            #[inline(always)]
            fn to_u64(self) -> u64 {
                u64::from(self)
            }

            #[inline(always)]
            fn from_u64(wide: u64) -> Self {
                wide as Self
            }

            #[inline(always)]
            fn to_i64(self) -> i64 {
                i64::from(self as $signed)
            }
        }
    )*};
}

widths!(u8, i8; u16, i16; u32, i32; u64, i64);
